//! `fewstep generate`: prompts to pictures.

mod canvas;
mod paint;
mod sampling;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use fewstep_models::pipeline::{Pipeline, PipelineOptions};
use fewstep_models::weights::Folder;
use fewstep_train::picture::{grid, write_png};

use crate::device::{self, Dtype};
use crate::failure::Usage;
use crate::lora_flags::LoraFlags;
use crate::terminal;
use canvas::CanvasFlags;
use sampling::{Sampling, SamplingFlags};
use settings::Settings;

/// Paints pictures of prompts, with a student in a few steps or with its teacher in many.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model: a folder in diffusers' layout (a student's teacher)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A UNet's folder, to be used instead of the model's: OUT/unet_target or OUT/unet of a run. A `scheduler`
    /// folder beside it is used too
    #[arg(long, value_name = "DIR")]
    unet: Option<PathBuf>,
    /// A VAE's folder, or a model's with `vae` inside, to be used instead of the model's
    #[arg(long, value_name = "DIR")]
    vae: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraFlags,
    /// What to paint; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// A file with prompts, one a line
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// What not to paint, where guidance compares two predictions: with a UNet without guidance embedding
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
    #[command(flatten)]
    canvas: CanvasFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// How closely to follow the prompt; w of the paper is one less [default: 8, or 1 with --lora and lcm:
    /// the guidance is in the adapters]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance_scale: Option<f64>,
    /// Every picture is a function of this and of its number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Pictures of each prompt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    num_images: u32,
    /// In pixels [default: what the UNet was made for]
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,
    /// In pixels [default: what the UNet was made for]
    #[arg(long, value_name = "PIXELS")]
    width: Option<u32>,
    /// Pictures painted at once; it changes the speed and the memory, not the pictures
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// What the UNet and the text encoder compute in; the VAE computes in f32
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Where they compute: cpu, cuda, cuda:N or auto
    #[arg(long, default_value = "auto")]
    device: String,
    /// The PNG file to write: the picture, or a grid of all, with a row for each of several prompts
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
}

/// How pictures are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sampler {
    /// Multistep consistency sampling.
    Lcm,
    /// DDIM with classifier-free guidance.
    Ddim,
}

const EXAMPLES: &str = "\
Examples:
  Four pictures by a student, in four steps:
  fewstep generate --model models/sd15 --unet runs/sd15/unet_target --steps 4 --seed 1 \\
      --prompt 'a red fox in the snow' --num_images 4 --guidance_scale 8 --out fox.png

  From the same noise, by the teacher:
  fewstep generate --model models/sd15 --sampler ddim --steps 50 --seed 1 \\
      --prompt 'a red fox in the snow' --num_images 4 --guidance_scale 8 --out teacher.png

  By adapters that make any model of their kind a student, with a style beside them:
  fewstep generate --model models/sdxl --lora runs/sdxl-lora/pytorch_lora_weights.safetensors \\
      --lora style.safetensors=0.8 --steps 4 --prompt 'a red fox in the snow' --out fox.png

  Over a picture by a student, by its teacher, and over a part of one:
  fewstep generate --model models/sd15 --unet runs/sd15/unet_target --image fox.png --strength 0.5 \\
      --prompt 'a red fox in the snow, oil painting' --out oil.png
  fewstep generate --model models/sd15 --sampler ddim --image fox.png --strength 0.5 \
      --prompt 'a red fox in the snow, oil painting' --out oil-teacher.png
  fewstep generate --model models/sd15-inpainting --lora lcm-lora.safetensors --image fox.png \\
      --mask ears.png --prompt 'a red fox with blue ears' --guidance_scale 4 --out ears.png

The settings lie inside the PNG: as text under `parameters`, as JSON under `fewstep`.";

/// Loads, paints, writes.
///
/// # Errors
/// Wrong models or settings, files that cannot be read or written, and what LibTorch refuses.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let prompts = prompts(args)?;
    sampling::check(args)?;
    let (loras, merge) = args.lora.read()?;
    let options = PipelineOptions {
        unet: args.unet.clone(),
        vae: args.vae.clone(),
        loras,
        merge,
        ..PipelineOptions::new(device::open(&args.device)?, args.dtype.kind())
    };
    let pipeline = Pipeline::load(&Folder::open(&args.model)?, &options)?;
    let sampling = Sampling::of(args, pipeline.denoiser().scheduler)?;
    for warning in sampling.warnings() {
        terminal::note(&format!("note: {warning}"));
    }
    let embedded = pipeline.denoiser().unet.config().time_cond_proj_dim.is_some();
    if args.negative_prompt.is_some() && (embedded || args.guidance_scale() <= 1.0) {
        terminal::note(if embedded {
            "note: --negative_prompt has no effect: this UNet was distilled with guidance and knows no second prompt"
        } else {
            "note: --negative_prompt has no effect at a guidance scale of at most 1"
        });
    }
    let pictures = paint::paint(args, &sampling, &pipeline, &prompts)?;
    let settings = Settings::of(args, &prompts, &pictures);
    let columns = match prompts.len() {
        1 => (1..).find(|n| n * n >= pictures.len()).unwrap_or(1),
        _ => args.num_images as usize,
    };
    write_png(&args.out, &grid(&pictures, columns), &settings.notes())?;
    terminal::note(&format!("wrote {} to {}", settings.summary(), args.out.display()));
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// The guidance scale: as asked for, or the usual one.
    fn guidance_scale(&self) -> f64 {
        let guided_already = self.sampling.sampler == Sampler::Lcm && !self.lora.is_empty();
        self.guidance_scale
            .unwrap_or(if guided_already { 1.0 } else { 8.0 })
    }
}

/// The prompts of the flags, then those of the file; empty lines of a file are none.
fn prompts(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut prompts = args.prompt.clone();
    if let Some(path) = &args.prompts {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the prompts in {} cannot be read", path.display()))?;
        prompts.extend(
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned),
        );
    }
    if prompts.is_empty() {
        return Err(Usage::error(
            "there is nothing to paint: give --prompt TEXT, or --prompts FILE with one a line",
        ));
    }
    Ok(prompts)
}
