//! The third stage: the UNet and the text encoder, trained together to predict the velocity
//! `v = sqrt(abar_t) eps - sqrt(1 - abar_t) x`.
//!
//! Not the noise: from pure noise on, everything coarse must come from the caption, and there an error in `x`
//! hardly shows in the noise.

use anyhow::Result;
use fewstep_draw::{Purpose, Stream};
use fewstep_models::clip::{ClipTextConfig, ClipTextModel};
use fewstep_models::params::Weights;
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig, Tables};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig, UNetInput};
use tch::{Device, Kind, Tensor};

use super::latents::Examples;
use super::progress::Progress;
use super::recipe::DenoiserRecipe;
use super::tokenizer::Vocabulary;
use super::trained::Trained;
use super::{Making, architecture};
use crate::ahead::ahead;

/// UNet and text encoder; the weights are f32 moving averages.
pub(super) struct Denoiser {
    pub(super) unet: Weights,
    pub(super) text_encoder: Weights,
}

/// Updates whose draws travel to the device together: each journey waits for what the device does.
const TOGETHER: u64 = 32;

struct Networks {
    unet: UNet2DConditionModel,
    text: ClipTextModel,
}

impl Denoiser {
    /// Takes the finished networks from the work folder, or trains them.
    pub(super) fn make(
        making: &mut Making<'_>,
        examples: &Examples,
        vocabulary: &Vocabulary,
    ) -> Result<Self> {
        let text = architecture::text_encoder(&making.recipe.text_encoder, vocabulary);
        let networks = Networks {
            unet: UNet2DConditionModel::new(UNetConfig::from_json(&architecture::unet(making.recipe))?)?,
            text: ClipTextModel::new(ClipTextConfig::from_json(&text)?)?,
        };
        let finished = (
            making.finished("unet", networks.unet.layout())?,
            making.finished("text_encoder", networks.text.layout())?,
        );
        if let (Some(unet), Some(text_encoder)) = finished {
            return Ok(Denoiser { unet, text_encoder });
        }
        let made = train(&networks, making, examples)?;
        making.finish("unet", &made.unet)?;
        making.finish("text_encoder", &made.text_encoder)?;
        Ok(made)
    }
}

fn train(networks: &Networks, making: &mut Making<'_>, examples: &Examples) -> Result<Denoiser> {
    let (recipe, seed) = (making.recipe.denoiser.clone(), making.recipe.seed);
    let (device, training) = (making.device, &recipe.training);
    let layouts = [
        ("unet", networks.unet.layout()),
        ("text_encoder", networks.text.layout()),
    ];
    let mut trained = Trained::new(&layouts, seed, device);
    making.resume("denoiser", &mut trained)?;
    let schedule = NoiseSchedule::new(&SchedulerConfig::from_json(&architecture::scheduler())?)?;
    let objective = Objective {
        networks,
        examples,
        tables: Tables::new(&schedule, device),
        loss_weights: loss_weights(&schedule, recipe.min_snr_gamma, device),
        kind: making.kind,
    };
    let mut progress = Progress::new("denoiser", trained.step(), device);
    let shape = examples.latents.size();
    let per_picture = shape[1..].iter().product::<i64>() as usize;
    let (first, steps) = (trained.step(), training.steps);
    let chunks = 0..(steps - first).div_ceil(TOGETHER);
    let draw = |chunk: u64| {
        let from = first + chunk * TOGETHER;
        let to = steps.min(from + TOGETHER);
        Draws::new(
            seed,
            from * training.batch..to * training.batch,
            &recipe,
            per_picture,
        )
    };
    ahead(chunks, making.threads, draw, |chunks| {
        for draws in chunks {
            let draws = draws.on(device, &shape);
            for place in 0..draws.len() / training.batch as i64 {
                let batch = draws.narrow(place * training.batch as i64, training.batch as i64);
                let loss = objective.loss(&trained.masters, &batch);
                trained.update(&loss, training)?;
                let due = progress.update(trained.step(), &loss, training);
                making.after_update("denoiser", &trained, due)?;
            }
        }
        let mut averages = trained.averages();
        let text_encoder = averages.remove(1);
        let unet = averages.remove(0);
        Ok(Denoiser { unet, text_encoder })
    })
}

/// The draws of some samples on the host.
struct Draws {
    pictures: Vec<i64>,
    timesteps: Vec<i64>,
    dropped: Vec<bool>,
    noise: Vec<f32>,
}

impl Draws {
    fn new(seed: u64, samples: std::ops::Range<u64>, recipe: &DenoiserRecipe, per_picture: usize) -> Self {
        let stream = |purpose, sample| Stream::new(seed, purpose, sample);
        let mut noise = vec![0.0; (samples.end - samples.start) as usize * per_picture];
        for (sample, out) in samples.clone().zip(noise.chunks_mut(per_picture)) {
            stream(Purpose::LatentNoise, sample).fill_normal(out);
        }
        Draws {
            pictures: samples
                .clone()
                .map(|s| stream(Purpose::SampleOrder, s).below(recipe.pictures) as i64)
                .collect(),
            timesteps: samples
                .clone()
                .map(|s| stream(Purpose::TimestepIndex, s).below(TIMESTEPS) as i64)
                .collect(),
            dropped: samples
                .map(|s| stream(Purpose::CaptionDrop, s).uniform() < recipe.caption_drop)
                .collect(),
            noise,
        }
    }

    fn on(&self, device: Device, latents: &[i64]) -> Batch {
        Batch {
            pictures: Tensor::from_slice(&self.pictures).to_device(device),
            timesteps: Tensor::from_slice(&self.timesteps).to_device(device),
            dropped: Tensor::from_slice(&self.dropped).to_device(device),
            noise: Tensor::from_slice(&self.noise)
                .view([&[-1], &latents[1..]].concat().as_slice())
                .to_device(device),
        }
    }
}

/// The schedule's T.
const TIMESTEPS: u64 = 1000;

/// Draws on the device, one a row.
struct Batch {
    /// `[B]` i64, into the examples.
    pictures: Tensor,
    /// `[B]` i64.
    timesteps: Tensor,
    /// `[B]` bool: whether the caption is hidden.
    dropped: Tensor,
    /// `[B, 4, h, w]`.
    noise: Tensor,
}

impl Batch {
    fn len(&self) -> i64 {
        self.pictures.size()[0]
    }

    fn narrow(&self, from: i64, rows: i64) -> Batch {
        let cut = |t: &Tensor| t.narrow(0, from, rows);
        Batch {
            pictures: cut(&self.pictures),
            timesteps: cut(&self.timesteps),
            dropped: cut(&self.dropped),
            noise: cut(&self.noise),
        }
    }
}

/// What is made small: nothing in it waits for the device.
struct Objective<'a> {
    networks: &'a Networks,
    examples: &'a Examples,
    tables: Tables,
    /// `[T]` f32.
    loss_weights: Tensor,
    kind: Kind,
}

impl Objective<'_> {
    /// The weighted mean of |v_theta(z_t, t, c) - v|^2, a scalar in f32.
    fn loss(&self, masters: &[Weights], batch: &Batch) -> Tensor {
        let (unet, text) = (masters[0].to_kind(self.kind), masters[1].to_kind(self.kind));
        let x = self
            .examples
            .latents
            .index_select(0, &batch.pictures)
            .to_kind(Kind::Float);
        let ids = self.examples.token_ids.index_select(0, &batch.pictures);
        let ids = self
            .examples
            .empty_ids
            .where_self(&batch.dropped.unsqueeze(1), &ids);
        let states = self.networks.text.forward(&text, &ids).last_hidden_state;
        let z = self.tables.add_noise(&x, &batch.noise, &batch.timesteps);
        let input = UNetInput {
            sample: &z,
            timestep: &batch.timesteps,
            encoder_hidden_states: &states,
            timestep_cond: None,
            added: None,
        };
        let predicted = self.networks.unet.forward(&unet, &input).to_kind(Kind::Float);
        let velocity =
            self.tables.alpha(&batch.timesteps) * &batch.noise - self.tables.sigma(&batch.timesteps) * &x;
        let errors = (predicted - velocity)
            .square()
            .mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
        let weights = self.loss_weights.index_select(0, &batch.timesteps);
        (errors * weights).mean(Kind::Float)
    }
}

/// `(min(snr_t, gamma) + 1) / (snr_t + 1)` for every timestep, with `snr_t = abar_t / (1 - abar_t)`: a unit of
/// error in `x` counts `min(snr_t, gamma) + 1`, so that clean timesteps do not drown the others and pure noise
/// still counts.
fn loss_weights(schedule: &NoiseSchedule, gamma: f64, device: Device) -> Tensor {
    let weights: Vec<f32> = schedule
        .alphas_cumprod()
        .iter()
        .map(|&abar| {
            let snr = f64::from(abar) / (1.0 - f64::from(abar));
            ((snr.min(gamma) + 1.0) / (snr + 1.0)) as f32
        })
        .collect();
    Tensor::from_slice(&weights).to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_timesteps_weigh_less_and_pure_noise_weighs_one() {
        let config = SchedulerConfig::from_json(&architecture::scheduler()).unwrap();
        let schedule = NoiseSchedule::new(&config).unwrap();
        let weights = Vec::<f32>::try_from(loss_weights(&schedule, 5.0, Device::Cpu)).unwrap();
        assert_eq!(weights.len() as u64, TIMESTEPS);
        assert!(weights[0] < 0.01 && weights[999] == 1.0);
        assert!(weights.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn draws_do_not_depend_on_how_they_are_cut() {
        let recipe = DenoiserRecipe {
            pictures: 100,
            min_snr_gamma: 5.0,
            caption_drop: 0.5,
            training: super::super::recipe::Training {
                steps: 1,
                batch: 1,
                learning_rate: 1.0,
                warmup: 0,
                decay_from: 1.0,
                weight_decay: 0.0,
                ema_decay: 0.9,
            },
        };
        let whole = Draws::new(1, 0..6, &recipe, 8);
        let part = Draws::new(1, 2..6, &recipe, 8);
        assert_eq!(whole.pictures[2..], part.pictures);
        assert_eq!(whole.timesteps[2..], part.timesteps);
        assert_eq!(whole.dropped[2..], part.dropped);
        assert_eq!(whole.noise[16..], part.noise);
    }
}
