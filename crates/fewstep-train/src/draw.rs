//! What a step draws at random, for each sample by its number alone: so a run draws the same on any device,
//! in batches of any size, and after any interruption. Dropout alone is drawn by the device, from a seed that
//! the micro-batch's first sample gives.

use fewstep_draw::{Purpose, Stream};
use fewstep_models::params::Init;
use libtorch_ext::TorchError;
use tch::{Device, Tensor};

use crate::config::Config;

/// The draws of a run.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    seed: u64,
    solver_steps: u64,
    w_range: (f64, f64),
    proportion_empty_prompts: f64,
}

impl Draws {
    /// The draws that the options describe.
    pub fn new(config: &Config) -> Self {
        Draws {
            seed: config.run.seed,
            solver_steps: u64::from(config.distillation.num_ddim_timesteps),
            w_range: config.w_range(),
            proportion_empty_prompts: config.data.proportion_empty_prompts,
        }
    }

    /// The solver step n of each sample, uniform over 0 to N-1.
    pub fn index(&self, samples: &[u64]) -> Vec<i64> {
        let draw = |&sample| {
            self.stream(Purpose::TimestepIndex, sample)
                .below(self.solver_steps) as i64
        };
        samples.iter().map(draw).collect()
    }

    /// The guidance scale w of each sample, uniform over w_min to w_max: `[B]`.
    pub fn guidance_scale(&self, samples: &[u64]) -> Vec<f32> {
        let (low, high) = self.w_range;
        let draw = |&sample| {
            let uniform = self.stream(Purpose::GuidanceScale, sample).uniform();
            (low + (high - low) * uniform) as f32
        };
        samples.iter().map(draw).collect()
    }

    /// Whether the sample's caption gives way to the empty prompt.
    pub fn drops_caption(&self, sample: u64) -> bool {
        self.stream(Purpose::CaptionDrop, sample).uniform() < self.proportion_empty_prompts
    }

    /// Unit normal numbers of `shape` for each sample, as a tensor `[B, shape..]` f32 on `device`.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn normal(
        &self,
        purpose: Purpose,
        samples: &[u64],
        shape: &[i64],
        device: Device,
    ) -> Result<Tensor, TorchError> {
        let each = shape.iter().product::<i64>() as usize;
        let mut numbers = vec![0.0f32; each * samples.len()];
        for (sample, numbers) in samples.iter().zip(numbers.chunks_exact_mut(each.max(1))) {
            self.stream(purpose, *sample).fill_normal(numbers);
        }
        let whole: Vec<i64> = std::iter::once(samples.len() as i64)
            .chain(shape.iter().copied())
            .collect();
        Ok(Tensor::f_from_slice(&numbers)?
            .f_view(whole.as_slice())?
            .f_to_device(device)?)
    }

    fn stream(&self, purpose: Purpose, sample: u64) -> Stream {
        Stream::new(self.seed, purpose, sample)
    }
}

/// A new parameter as `init` says: `shape` f32, on the CPU. A function of the seed and of its number.
///
/// # Errors
/// What LibTorch refuses.
pub fn initial(seed: u64, number: u64, init: Init, shape: &[i64]) -> Result<Tensor, TorchError> {
    let mut stream = Stream::new(seed, Purpose::Initialisation, number);
    let mut numbers = vec![0.0f32; shape.iter().product::<i64>() as usize];
    match init {
        Init::Zeros => {}
        Init::Ones => numbers.fill(1.0),
        Init::Uniform(bound) => numbers
            .iter_mut()
            .for_each(|x| *x = (bound * (2.0 * stream.uniform() - 1.0)) as f32),
        Init::Normal(std) => {
            stream.fill_normal(&mut numbers);
            numbers.iter_mut().for_each(|x| *x *= std as f32);
        }
    }
    Ok(Tensor::f_from_slice(&numbers)?.f_view(shape)?)
}

/// Seeds LibTorch's generator, which is the whole process', for the dropout of the micro-batch that begins with
/// this sample; where nothing is dropped it is left alone.
pub fn seed_dropout(config: &Config, first_sample: u64) {
    if config.lora.dropout() > 0.0 {
        let mut stream = Stream::new(config.run.seed, Purpose::Dropout, first_sample);
        tch::manual_seed(stream.below(1 << 62) as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(flags: &[(&str, &str)]) -> Draws {
        let mut config = Config::default();
        for (name, word) in flags {
            config.set(name, &[(*word).to_owned()]).unwrap();
        }
        Draws::new(&config)
    }

    #[test]
    fn a_batch_is_split_without_changing_what_is_drawn() {
        let draws = draws(&[("seed", "3")]);
        let normal = |samples: &[u64]| {
            draws
                .normal(Purpose::LatentNoise, samples, &[2, 3], Device::Cpu)
                .unwrap()
        };
        let whole = normal(&[4, 5, 6]);
        assert_eq!(whole.size(), [3, 2, 3]);
        assert_eq!(whole.narrow(0, 1, 2), normal(&[5, 6]));
        assert_eq!(draws.index(&[4, 5, 6])[1..], draws.index(&[5, 6]));
        assert_eq!(
            draws.guidance_scale(&[4, 5, 6])[1..],
            draws.guidance_scale(&[5, 6])
        );
    }

    #[test]
    fn draws_keep_to_their_ranges() {
        let draws = draws(&[("num_ddim_timesteps", "3"), ("w_min", "2"), ("w_max", "4")]);
        let samples: Vec<u64> = (0..3000).collect();
        let index = draws.index(&samples);
        for n in 0..3 {
            let count = index.iter().filter(|&&i| i == n).count();
            assert!((900..1100).contains(&count), "{count}");
        }
        let w = draws.guidance_scale(&samples);
        assert!(w.iter().all(|w| (2.0..4.0).contains(w)));
        assert!((w.iter().sum::<f32>() / 3000.0 - 3.0).abs() < 0.05);
    }

    #[test]
    fn the_asked_share_of_captions_is_dropped() {
        for (share, least, most) in [("0", 0, 0), ("0.25", 2350, 2650), ("1", 10_000, 10_000)] {
            let draws = draws(&[("proportion_empty_prompts", share)]);
            let count = (0..10_000).filter(|&sample| draws.drops_caption(sample)).count();
            assert!((least..=most).contains(&count), "{share}: {count}");
        }
    }
}
