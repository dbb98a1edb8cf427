//! What a picture was painted with, to be kept inside its file.

use std::path::Path;

use fewstep_models::pipeline::Rgb8;
use fewstep_train::picture::Note;
use serde::Serialize;

use super::canvas::StrengthSteps;
use super::{Args, Sampler};

/// The settings of a grid of pictures, by the flags' names.
#[derive(Debug, Serialize)]
pub(super) struct Settings<'a> {
    model: &'a Path,
    unet: Option<&'a Path>,
    vae: Option<&'a Path>,
    /// FILE=WEIGHT each.
    loras: Vec<String>,
    image: Option<&'a Path>,
    mask: Option<&'a Path>,
    strength: Option<f64>,
    strength_steps: Option<StrengthSteps>,
    prompts: &'a [String],
    negative_prompt: Option<&'a str>,
    sampler: &'static str,
    steps: u32,
    /// Where they were given one by one.
    timesteps: &'a [i64],
    guidance_scale: f64,
    original_inference_steps: Option<u32>,
    seed: u64,
    num_images: u32,
    width: usize,
    height: usize,
    dtype: &'static str,
    version: &'static str,
}

impl<'a> Settings<'a> {
    /// The settings with which these pictures were painted.
    pub(super) fn of(args: &'a Args, prompts: &'a [String], pictures: &[Rgb8]) -> Self {
        let (width, height) = pictures
            .first()
            .map_or((0, 0), |first| (first.width, first.height));
        Settings {
            model: &args.model,
            unet: args.unet.as_deref(),
            vae: args.vae.as_deref(),
            loras: args.lora.words(),
            image: args.canvas.files().0,
            mask: args.canvas.files().1,
            strength: args.canvas.strength(),
            strength_steps: args.canvas.strength_steps(),
            prompts,
            negative_prompt: args.negative_prompt.as_deref(),
            sampler: match args.sampling.sampler {
                Sampler::Lcm => "lcm",
                Sampler::Ddim => "ddim",
            },
            steps: args.sampling.steps(),
            timesteps: &args.sampling.timesteps,
            guidance_scale: args.guidance_scale(),
            original_inference_steps: args.sampling.original_inference_steps,
            seed: args.seed,
            num_images: args.num_images,
            width,
            height,
            dtype: args.dtype.name(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// For the PNG file: `parameters` in the words that picture browsers know, `fewstep` as JSON.
    pub(super) fn notes(&self) -> Vec<Note> {
        let json = serde_json::to_string(self).unwrap_or_default();
        [("parameters", self.parameters()), ("fewstep", json)]
            .map(|(keyword, text)| Note { keyword, text })
            .into()
    }

    fn parameters(&self) -> String {
        let negative = self
            .negative_prompt
            .map_or(String::new(), |text| format!("\nNegative prompt: {text}"));
        let weights = self.unet.unwrap_or(self.model);
        let loras: String = self.loras.iter().map(|lora| format!(", Lora: {lora}")).collect();
        format!(
            "{}{negative}\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Size: {}x{}, Model: {}{loras}, Version: fewstep {}",
            self.prompts.join("\n"),
            self.steps,
            self.sampler.to_uppercase(),
            self.guidance_scale,
            self.seed,
            self.width,
            self.height,
            weights.display(),
            self.version
        )
    }

    /// What was painted, in a few words.
    pub(super) fn summary(&self) -> String {
        let count = self.prompts.len() * self.num_images as usize;
        let pictures = if count == 1 {
            "a picture".to_owned()
        } else {
            format!("{count} pictures")
        };
        format!(
            "{pictures} of {}x{} pixels in {} steps",
            self.width, self.height, self.steps
        )
    }
}
