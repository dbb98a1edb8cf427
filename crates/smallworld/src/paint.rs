//! Painting captions of the small world with a model in diffusers' layout, by either sampler.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;
use fewstep_models::lora::LoraFile;
use fewstep_models::pipeline::{DdimOptions, LcmOptions, LoraUse, PictureNoise, Pipeline, PipelineOptions};
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

/// Which UNet paints.
#[derive(Debug, Clone)]
pub(crate) enum Unet {
    /// The model's.
    Own,
    /// The one in this folder.
    Other(PathBuf),
    /// The model's, with the adapters of this file beside its weights.
    Adapted(PathBuf),
}

/// A loaded model.
pub(crate) struct Painter {
    pipeline: Pipeline,
}

impl Painter {
    /// Loads a model with this UNet.
    pub(crate) fn load(model: &Folder, unet: Unet, device: Device, dtype: Kind) -> Result<Self> {
        let mut options = PipelineOptions::new(device, dtype);
        match unet {
            Unet::Own => {}
            Unet::Other(folder) => options.unet = Some(folder),
            Unet::Adapted(file) => options.loras.push(LoraUse {
                file: Rc::new(LoraFile::read(&file)?),
                weight: 1.0,
            }),
        }
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
