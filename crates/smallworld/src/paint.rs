//! Painting captions of the small world with a model in diffusers' layout, by either sampler.

use std::path::Path;

use anyhow::Result;
use fewstep_models::pipeline::{DdimOptions, LcmOptions, PictureNoise, Pipeline, PipelineOptions};
use fewstep_models::schedule::{DdimTimesteps, LcmTimesteps};
use fewstep_models::weights::Folder;
use tch::{Device, Kind};

use crate::teacher::from_pixels;
use crate::world::Picture;

/// Pictures that are painted at once.
const TOGETHER: usize = 64;

/// How pictures are painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampler {
    /// DDIM with classifier-free guidance, in so many steps of two evaluations.
    Ddim(i64),
    /// Multistep consistency sampling, in so many steps of one evaluation.
    Lcm(i64),
}

/// A loaded model.
pub(crate) struct Painter {
    pipeline: Pipeline,
}

impl Painter {
    /// Loads a model, with another UNet in place of its own where one is given.
    pub(crate) fn load(model: &Folder, unet: Option<&Path>, device: Device, dtype: Kind) -> Result<Self> {
        let options = PipelineOptions {
            unet: unet.map(Path::to_owned),
            ..PipelineOptions::new(device, dtype)
        };
        Ok(Painter {
            pipeline: Pipeline::load(model, &options)?,
        })
    }

    /// A picture for each caption: the picture number `i` depends on the caption, the seed and `i` alone.
    /// `go_on` is told how many are done after each batch, and ends the painting with an error.
    pub(crate) fn paint(
        &self,
        captions: &[String],
        sampler: Sampler,
        guidance_scale: f64,
        seed: u64,
        mut go_on: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Picture>> {
        let shape = self.pipeline.latent_shape(None, None)?;
        let mut pictures = Vec::with_capacity(captions.len());
        for chunk in captions.chunks(TOGETHER) {
            let first = pictures.len() as u64;
            let mut noise = PictureNoise::new(seed, first..first + chunk.len() as u64);
            let latents = noise.initial(&shape);
            let prompts = self.pipeline.prompts(chunk, None, &shape)?;
            let latents = match sampler {
                Sampler::Ddim(steps) => {
                    let options = DdimOptions {
                        timesteps: DdimTimesteps::count(steps),
                        guidance_scale,
                    };
                    self.pipeline.ddim(&prompts, &options, &latents, |_| ())?
                }
                Sampler::Lcm(steps) => {
                    let options = LcmOptions {
                        timesteps: LcmTimesteps::count(steps),
                        guidance_scale,
                    };
                    let between = |_, _: &[i64]| noise.after_step(&shape);
                    self.pipeline.lcm(&prompts, &options, &latents, between, |_| ())?
                }
            };
            pictures.extend(from_pixels(&self.pipeline.decode(&latents)?)?);
            go_on(pictures.len())?;
        }
        Ok(pictures)
    }
}
