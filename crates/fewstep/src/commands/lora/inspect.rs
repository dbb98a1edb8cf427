//! `fewstep lora inspect`: what is in a file of LoRAs, and what of it would not load.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use fewstep_models::lora::LoraFile;

use super::Unsaid;
use super::summary;
use crate::terminal;

/// Says what a LoRA's file holds: its form, modules, rank, alpha, dtype and size, what is wrong with it, and what
/// would not load.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file, or a folder with adapter_model.safetensors or pytorch_lora_weights.safetensors in it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    unsaid: Unsaid,
}

const EXAMPLES: &str = "\
Examples:
  fewstep lora inspect lcm-lora-sdv1-5.safetensors
  fewstep lora inspect runs/old/unet_lora

Exit status: 0 if all of it would load, 1 if some of it would not.";

/// Prints what is in the file.
///
/// # Errors
/// It cannot be read.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = LoraFile::examine(&args.file, &args.unsaid.options())?;
    let bytes = std::fs::metadata(&file.path)
        .with_context(|| format!("{} cannot be read", file.path.display()))?
        .len();
    let mut lines = vec![("file", file.path.display().to_string())];
    lines.extend(summary::lines(&file));
    lines.push(("size", size(bytes)));
    let mut text = summary::layout(&lines);
    for repair in &file.repairs {
        text.push_str(&format!("\nrepaired: {repair}"));
    }
    for tensor in &file.unloadable {
        text.push_str(&format!("\nwould not load: {tensor}"));
    }
    terminal::result(&text);
    Ok(match file.unloadable.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
