//! `fewstep debug step`: one training step from given tensors.

use std::path::PathBuf;

use fewstep_models::weights::read_tensors;
use fewstep_train::replay;

use super::inputs::write;
use crate::train_flags::TrainFlags;

/// Runs one training step on tensors from a file, and writes everything that it computed.
///
/// Inputs: latents (B,4,h,w; scaled), noise (same), index (B), w (B), prompt_embeds (B,77,D), for SD
/// uncond_prompt_embeds (B or 1,77,D), for SDXL text_embeds (B,P) and time_ids (B,6), and init.PARAMETER for
/// every trained parameter that is to be overwritten (of adapters: MODULE.lora_A.weight and
/// MODULE.lora_B.weight); the target starts as a copy of that student, less what init_target.PARAMETER
/// overwrites. A run that ends since numbers are not finite leaves such a file.
///
/// Outputs, as f32: loss, model_pred, target, x_prev, and grad.PARAMETER for every trained parameter, before
/// clipping.
///
/// It takes every flag of `fewstep train`, so that a run's command line can be replayed; those that do not
/// shape a step (its data, its output folder) play no part.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(super) struct Args {
    /// A safetensors file with the inputs
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    flags: TrainFlags,
}

const EXAMPLES: &str = "\
Examples:
  fewstep debug step --pretrained_teacher_model models/sd15 --loss_type huber \\
      --inputs in.safetensors --output out.safetensors
  fewstep debug step --config runs/sd15/config.toml \\
      --inputs in.safetensors --output out.safetensors";

/// Reads, computes, writes.
///
/// # Errors
/// Wrong options, models or tensors, and what LibTorch refuses.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.flags.config()?;
    let outputs = replay::step(&config, read_tensors(&args.inputs)?)?;
    write(
        &args.output,
        outputs.iter().map(|(name, tensor)| (name.as_str(), tensor)),
    )
}
