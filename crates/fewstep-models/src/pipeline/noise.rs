//! Noise for pictures: each has its own, by seed and number, whichever batch it is painted in.

use fewstep_draw::{Purpose, Stream};
use tch::Tensor;

/// The noise of some pictures of a run, drawn on the host.
#[derive(Debug)]
pub struct PictureNoise {
    seed: u64,
    pictures: Vec<u64>,
    between_steps: Vec<Stream>,
}

impl PictureNoise {
    /// The noise of these pictures: with the same seed, a picture's number alone decides what it is.
    pub fn new(seed: u64, pictures: impl IntoIterator<Item = u64>) -> Self {
        let pictures: Vec<u64> = pictures.into_iter().collect();
        let between_steps = pictures
            .iter()
            .map(|&picture| Stream::new(seed, Purpose::SamplerNoise, picture))
            .collect();
        PictureNoise {
            seed,
            pictures,
            between_steps,
        }
    }

    /// Where sampling starts: `[B, ..shape]` f32 on the CPU, for a `shape` of one picture's latents.
    pub fn initial(&self, shape: &[i64]) -> Tensor {
        let stream = |&picture: &u64| Stream::new(self.seed, Purpose::InitialLatents, picture);
        normal(self.pictures.iter().map(stream), shape)
    }

    /// What is added after the next step: `[B, ..shape]` f32 on the CPU.
    pub fn after_step(&mut self, shape: &[i64]) -> Tensor {
        normal(&mut self.between_steps, shape)
    }
}

fn normal(streams: impl IntoIterator<Item = impl std::borrow::BorrowMut<Stream>>, shape: &[i64]) -> Tensor {
    let one = shape.iter().product::<i64>() as usize;
    let mut numbers = Vec::new();
    let mut batch = 0;
    for mut stream in streams {
        let start = numbers.len();
        numbers.resize(start + one, 0.0);
        stream.borrow_mut().fill_normal(&mut numbers[start..]);
        batch += 1;
    }
    Tensor::from_slice(&numbers).view([&[batch], shape].concat().as_slice())
}

#[cfg(test)]
mod tests {
    use super::PictureNoise;

    #[test]
    fn a_pictures_noise_does_not_depend_on_its_batch() {
        let shape = [4, 3, 5];
        let mut together = PictureNoise::new(7, 0..3);
        let mut alone = PictureNoise::new(7, [2]);
        assert_eq!(together.initial(&shape).get(2), alone.initial(&shape).get(0));
        for _ in 0..2 {
            let (all, one) = (together.after_step(&shape), alone.after_step(&shape));
            assert_eq!(all.get(2), one.get(0));
            assert_ne!(all.get(1), one.get(0));
        }
    }

    #[test]
    fn noise_differs_between_seeds_steps_and_from_the_start() {
        let shape = [4, 8, 8];
        let mut noise = PictureNoise::new(1, [0]);
        let start = noise.initial(&shape);
        let (first, second) = (noise.after_step(&shape), noise.after_step(&shape));
        assert_ne!(start, first);
        assert_ne!(first, second);
        assert_ne!(start, PictureNoise::new(2, [0]).initial(&shape));
        assert_eq!(start.size(), [1, 4, 8, 8]);
    }
}
