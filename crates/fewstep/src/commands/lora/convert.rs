//! `fewstep lora convert`: a file of LoRAs in another form.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use fewstep_models::lora::{
    AlphaSource, DIFFUSERS_FILE, KOHYA_FILE, LoraFile, LoraForm, ReadOptions, write_diffusers, write_kohya,
};

use super::Unsaid;
use super::summary;
use crate::failure::Usage;
use crate::terminal;

/// Writes a LoRA of any form that is about in diffusers' form or kohya's, and puts right what is wrong with its
/// names. Nothing is left out: what cannot be converted is an error.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file to read, or a folder with adapter_model.safetensors or pytorch_lora_weights.safetensors in it
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write, NAME.safetensors; in a folder that is there, pytorch_lora_weights.safetensors or
    /// lora_kohya.safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The form to write
    #[arg(long, value_enum, value_name = "FORM")]
    to: Form,
    /// The alpha that the LoRA was trained with, for files that do not state it [default: the rank]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    alpha: Option<f64>,
    #[command(flatten)]
    unsaid: Unsaid,
}

/// A form that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// diffusers and PEFT: lora_A, lora_B, rank and alpha in the metadata.
    Diffusers,
    /// kohya's scripts, ComfyUI and other programs: lora_down, lora_up, alpha.
    Kohya,
}

const EXAMPLES: &str = "\
Examples:
  fewstep lora convert style.safetensors style-diffusers.safetensors --to diffusers
  fewstep lora convert runs/lora/pytorch_lora_weights.safetensors runs/lora --to kohya

  What diffusers' training scripts wrote, with the alpha that they lost:
  fewstep lora convert old-run/pytorch_lora_weights.safetensors repaired.safetensors \\
      --to diffusers --alpha 32";

/// Reads, says what was read, and writes.
///
/// # Errors
/// A file that cannot be read or written, or tensors that are no part of a LoRA.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let output = output(&args.output, args.to)?;
    if args.alpha.is_some_and(|alpha| !alpha.is_finite()) {
        return Err(Usage::error("--alpha must be a finite number"));
    }
    let options = ReadOptions {
        alpha: args.alpha,
        ..args.unsaid.options()
    };
    let file = LoraFile::read_with(&args.input, &options)?;
    all_flags_count(args, &file)?;
    let lines = summary::layout(&summary::lines(&file)).replace('\n', "\n  ");
    terminal::note(&format!("read {}\n  {lines}", file.path.display()));
    for repair in &file.repairs {
        terminal::note(&format!("repaired: {repair}"));
    }
    if args.to == Form::Kohya && alphas_differ(&file) {
        terminal::note(
            "note: alphas differ from module to module, which diffusers (seen in 0.42.1) does not read from kohya \
             files; give it the diffusers form",
        );
    }
    match args.to {
        Form::Diffusers => write_diffusers(&output, &file.parts()),
        Form::Kohya => write_kohya(&output, &file.parts()),
    }
    .with_context(|| format!("{} was not written", output.display()))?;
    terminal::note(&format!("wrote {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// Whether some network's modules have different alphas.
fn alphas_differ(file: &LoraFile) -> bool {
    file.parts().iter().any(|(_, modules)| {
        let mut alphas = modules.values().map(|module| module.alpha);
        let first = alphas.next();
        alphas.any(|alpha| Some(alpha) != first)
    })
}

/// The file to write.
fn output(path: &Path, to: Form) -> anyhow::Result<PathBuf> {
    if path.is_dir() {
        return Ok(path.join(match to {
            Form::Diffusers => DIFFUSERS_FILE,
            Form::Kohya => KOHYA_FILE,
        }));
    }
    if path.extension().is_some_and(|ending| ending == "safetensors") {
        return Ok(path.to_owned());
    }
    Err(Usage::error(format!(
        "OUT is {}, but must be a folder that is there or end in .safetensors",
        path.display()
    )))
}

/// A flag that the file leaves nothing to say is a mistake.
fn all_flags_count(args: &Args, file: &LoraFile) -> anyhow::Result<()> {
    if args.alpha.is_some() && !file.alpha_sources.contains(&AlphaSource::Given) {
        return Err(Usage::error(format!(
            "--alpha is for files that do not state it, but {} does: `fewstep lora inspect` shows it",
            file.path.display()
        )));
    }
    let numbered = matches!(file.form, LoraForm::KohyaSgm | LoraForm::Mixed);
    if args.unsaid.layers_per_block.is_some() && !numbered {
        return Err(Usage::error(format!(
            "--layers_per_block is for SGM's block names, and {} has none",
            file.path.display()
        )));
    }
    Ok(())
}
