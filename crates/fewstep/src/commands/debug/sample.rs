//! `fewstep debug sample`: one sampling run from given noise.

use std::path::PathBuf;

use anyhow::bail;
use fewstep_models::pipeline::{
    AddedTensors, Conditions, Denoiser, LcmOptions, PipelineOptions, Prompts, load_unet,
};
use fewstep_models::schedule::LcmTimesteps;
use fewstep_models::weights::Folder;
use tch::Tensor;

use super::inputs::{Inputs, write};
use crate::device::{self, Dtype};
use crate::lora_flags::LoraFlags;

/// Samples with the LCM sampler from noise in a file, and writes the latents after each step.
///
/// Inputs: latents (B,4,h,w), noise.0 .. noise.N-2 (the same shape; the last step adds none), prompt_embeds
/// (B,77,D), for SDXL text_embeds (B,P) and time_ids (B,6). A UNet without guidance embedding is guided by
/// uncond_prompt_embeds (B or 1,77,D) where the guidance scale is above 1, and for SDXL by uncond_text_embeds.
///
/// Outputs, as f32: latents.0 .. latents.N-1.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model: a folder in diffusers' layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A UNet's folder, to be used instead of the model's; a `scheduler` folder beside it is used too
    #[arg(long, value_name = "DIR")]
    unet: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraFlags,
    /// A safetensors file with the inputs
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Sampling steps
    #[arg(long, value_name = "N", default_value_t = 4)]
    steps: i64,
    /// How closely to follow the prompt; w of the paper is one less
    #[arg(long, value_name = "G", default_value_t = 8.0, allow_negative_numbers = true)]
    guidance_scale: f64,
    /// The timesteps that the student was distilled at [default: the scheduler's, or else 50]
    #[arg(long, value_name = "N")]
    original_inference_steps: Option<i64>,
    /// What the UNet computes in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Where it computes: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "cpu")]
    device: String,
}

const EXAMPLES: &str = "\
Examples:
  fewstep debug sample --model models/sd15 --unet runs/sd15/unet_target \\
      --steps 4 --guidance_scale 8 --inputs in.safetensors --output out.safetensors";

const LATENTS: &[&str] = &["B", "4", "h", "w"];

/// Reads, samples, writes.
///
/// # Errors
/// Wrong tensors or models, timesteps that cannot be, and what LibTorch refuses.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut inputs = Inputs::open(Some(&args.inputs))?;
    let latents = inputs.floats("latents", LATENTS)?;
    let noises = (1..args.steps)
        .map(|n| inputs.floats(&format!("noise.{}", n - 1), LATENTS))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(odd) = noises.iter().find(|noise| noise.size() != latents.size()) {
        bail!(
            "noise has shape {:?}, but latents have {:?}",
            odd.size(),
            latents.size()
        );
    }
    let prompts = prompts(&mut inputs)?;
    inputs.finish();

    let (loras, merge) = args.lora.read()?;
    let options = PipelineOptions {
        unet: args.unet.clone(),
        loras,
        merge,
        ..PipelineOptions::new(device::open(&args.device)?, args.dtype.kind())
    };
    let (unet, weights, scheduler) = load_unet(&Folder::open(&args.model)?, &options)?;
    let denoiser = Denoiser {
        unet: &unet,
        weights: &weights,
        scheduler: &scheduler,
        inpainting: None,
    };
    let lcm = LcmOptions {
        timesteps: LcmTimesteps {
            original_inference_steps: args.original_inference_steps,
            ..LcmTimesteps::count(args.steps)
        },
        guidance_scale: args.guidance_scale,
    };
    let mut outputs = Vec::new();
    let noise = |step: usize, _: &[i64]| noises[step].shallow_clone();
    let _last = denoiser.lcm(&prompts, &lcm, &latents, noise, |done| {
        outputs.push((format!("latents.{}", done.index), done.latents.shallow_clone()));
    })?;
    write(
        &args.output,
        outputs.iter().map(|(name, tensor)| (name.as_str(), tensor)),
    )
}

fn prompts(inputs: &mut Inputs) -> anyhow::Result<Prompts> {
    let embeds = &["B", "77", "D"];
    let prompt_embeds = inputs.floats("prompt_embeds", embeds)?;
    let uncond_prompt_embeds = inputs.optional_floats("uncond_prompt_embeds", embeds)?;
    let text_embeds = inputs.optional_floats("text_embeds", &["B", "P"])?;
    let uncond_text_embeds = inputs.optional_floats("uncond_text_embeds", &["B", "P"])?;
    let time_ids = inputs.optional_floats("time_ids", &["B", "6"])?;
    let added = |text_embeds: Option<Tensor>| match (text_embeds, &time_ids) {
        (Some(text_embeds), Some(time_ids)) => Ok(Some(AddedTensors {
            text_embeds,
            time_ids: time_ids.shallow_clone(),
        })),
        (None, None) => Ok(None),
        _ => bail!("text_embeds and time_ids come together or not at all"),
    };
    let cond = Conditions {
        prompt_embeds,
        added: added(text_embeds)?,
    };
    let uncond = match uncond_prompt_embeds {
        Some(prompt_embeds) => Some(Conditions {
            prompt_embeds,
            added: added(uncond_text_embeds)?,
        }),
        None => None,
    };
    Ok(Prompts { cond, uncond })
}
