//! `fewstep lora inspect`: what is in a file of LoRAs, and what of it would not load.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use fewstep_models::lora::LoraFile;
use fewstep_models::pipeline::misfits;
use fewstep_models::weights::Folder;

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
    /// A model in diffusers' layout: says also what of the file that model has no place for. Only its
    /// configurations are read
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    unsaid: Unsaid,
}

const EXAMPLES: &str = "\
Examples:
  fewstep lora inspect lcm-lora-sdv1-5.safetensors
  fewstep lora inspect runs/old/unet_lora
  fewstep lora inspect style.safetensors --model models/sd15

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
    let misfits = match &args.model {
        None => Vec::new(),
        Some(model) => {
            let misfits = misfits_of(&file, model)?;
            let all: usize = file.parts().iter().map(|(_, modules)| modules.len()).sum();
            let fitting = format!("{} of {}", all - misfits.len(), summary::count(all));
            lines.push(("fits", format!("{fitting} of the file, in {}", model.display())));
            misfits
        }
    };
    let mut text = summary::layout(&lines);
    for repair in &file.repairs {
        text.push_str(&format!("\nrepaired: {repair}"));
    }
    for tensor in &file.unloadable {
        text.push_str(&format!("\nwould not load: {tensor}"));
    }
    for misfit in &misfits {
        text.push_str(&format!("\nwould not load: {misfit}"));
    }
    terminal::result(&text);
    Ok(match file.unloadable.is_empty() && misfits.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What the model has no place for, a sentence each.
fn misfits_of(file: &LoraFile, model: &Path) -> anyhow::Result<Vec<String>> {
    let folder = Folder::open(model)?;
    let mut sentences = Vec::new();
    for (part, _) in file.parts() {
        let misfits = misfits(&folder, part, file)?;
        let sentence = |(module, why)| format!("{}.{module} {why}", part.name());
        sentences.extend(misfits.into_iter().map(sentence));
    }
    Ok(sentences)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
