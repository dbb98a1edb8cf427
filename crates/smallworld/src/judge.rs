//! Judging sets of pictures by the checker: one that has seen what the VAE does to pictures, and the shares
//! of attributes that it finds right.
//!
//! It knows a VAE, and nothing of how pictures are painted.

use std::ops::Range;

use anyhow::Result;
use fewstep_models::params::Weights;
use fewstep_models::vae::AutoencoderKl;
use fewstep_models::weights::Folder;
use libtorch_ext::NoGrad;
use tch::{Device, Kind};

use crate::checker::{ATTRIBUTES, Checker, Verdict};
use crate::teacher::{from_pixels, pixels};
use crate::world::{Picture, Scene, render};

/// Pictures that go through the VAE at once.
const TOGETHER: usize = 64;

/// What the checker says of some pictures: shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The mean share of attributes that are right.
    pub mean: f64,
    /// The share of pictures with every attribute right.
    pub all: f64,
    /// The shares of the attributes of [`Score::PARTS`] that are right.
    pub parts: [f64; 6],
}

impl Score {
    /// The names of the parts.
    pub const PARTS: [&str; 6] = ["size", "colour", "shape", "relation", "pattern", "background"];

    /// The score of these verdicts.
    pub fn new(verdicts: &[Verdict]) -> Self {
        let n = verdicts.len().max(1) as f64;
        let share = |of: &dyn Fn(&Verdict) -> f64| verdicts.iter().map(of).sum::<f64>() / n;
        let both = |pair: [bool; 2]| pair.iter().filter(|&&right| right).count() as f64 / 2.0;
        let one = |right: bool| f64::from(u8::from(right));
        Score {
            mean: share(&|v| v.right() as f64 / ATTRIBUTES as f64),
            all: share(&|v| one(v.all_right())),
            parts: [
                share(&|v| both(v.size)),
                share(&|v| both(v.colour)),
                share(&|v| both(v.shape)),
                share(&|v| one(v.relation)),
                share(&|v| one(v.pattern)),
                share(&|v| one(v.background)),
            ],
        }
    }
}

/// The teacher's VAE, to see what it does to pictures.
pub(crate) struct Vae {
    network: AutoencoderKl,
    weights: Weights,
    device: Device,
}

impl Vae {
    /// Loads the VAE of a model in f32.
    pub(crate) fn load(folder: &Folder, device: Device) -> Result<Self> {
        let (network, weights) = AutoencoderKl::load(&folder.component("vae")?, Kind::Float, device)?;
        Ok(Vae {
            network,
            weights,
            device,
        })
    }

    /// The pictures, encoded to the means of their latents and decoded again.
    pub(crate) fn round_trip(&self, pictures: &[Picture]) -> Result<Vec<Picture>> {
        let mut out = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(TOGETHER) {
            let decoded = libtorch_ext::catch(|| {
                let _guard = NoGrad::new();
                let latents = self
                    .network
                    .encode(&self.weights, &pixels(chunk, self.device))
                    .mean;
                self.network.decode(&self.weights, &latents)
            })?;
            out.extend(from_pixels(&decoded)?);
        }
        Ok(out)
    }
}

/// A calibrated checker.
pub(crate) struct Judge {
    checker: Checker,
}

impl Judge {
    /// Learns from the pictures of these scenes, half of them as they are after the VAE.
    pub(crate) fn calibrate(seed: u64, numbers: Range<u64>, vae: &Vae) -> Result<Self> {
        let (scenes, mut pictures) = drawn(seed, numbers);
        let half = pictures.len() / 2;
        let kept = vae.round_trip(&pictures[..half])?;
        pictures[..half].clone_from_slice(&kept);
        let examples: Vec<_> = scenes.into_iter().zip(pictures).collect();
        Ok(Judge {
            checker: Checker::calibrate(&examples)?,
        })
    }

    /// How well the pictures show the scenes' captions.
    pub(crate) fn score(&self, scenes: &[Scene], pictures: &[Picture]) -> Score {
        let pairs = scenes.iter().zip(pictures);
        let verdicts: Vec<_> = pairs
            .map(|(scene, picture)| self.checker.check(scene, picture))
            .collect();
        Score::new(&verdicts)
    }
}

/// The scenes of these numbers, and their pictures.
pub(crate) fn drawn(seed: u64, numbers: Range<u64>) -> (Vec<Scene>, Vec<Picture>) {
    let scenes: Vec<Scene> = numbers.map(|number| Scene::draw(seed, number)).collect();
    let pictures = scenes.iter().map(render).collect();
    (scenes, pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_counts_attributes_and_whole_captions() {
        let right = Verdict {
            size: [true; 2],
            colour: [true; 2],
            shape: [true; 2],
            relation: true,
            pattern: true,
            background: true,
        };
        let flawed = Verdict {
            colour: [true, false],
            relation: false,
            ..right
        };
        let score = Score::new(&[right, right, flawed, flawed]);
        assert!((score.mean - (9.0 + 7.0) / 18.0).abs() < 1e-12);
        assert_eq!(score.all, 0.5);
        assert_eq!(score.parts, [1.0, 0.75, 1.0, 0.5, 1.0, 1.0]);
    }
}
