//! `fewstep debug init`: a model with random weights.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fewstep_models::arch::{Arch, Written, write_random};

use crate::device::Dtype;
use crate::terminal;

/// Writes a model of a known architecture with random weights, in diffusers' layout: for measuring full-size
/// shapes without anybody's weights, and for tests.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(super) struct Args {
    /// The architecture
    #[arg(long, value_name = "NAME", value_parser = architecture())]
    arch: Arch,
    /// The folder to write; it must be empty or not there
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The same seed gives the same model
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What the weights are stored in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
}

const EXAMPLES: &str = "\
Examples:
  fewstep debug init --arch tiny-sd --output models/tiny
  fewstep debug init --arch sd15 --output models/random-sd15 --dtype f16";

fn architecture() -> impl TypedValueParser<Value = Arch> {
    PossibleValuesParser::new(Arch::ALL.map(Arch::name)).try_map(|name| Arch::named(&name))
}

/// Writes the model, part by part.
///
/// # Errors
/// A folder that holds something, or what the operating system refuses.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut progress = |part: Written<'_>| {
        let size = match part.parameters {
            0 => String::new(),
            count => format!(", {:.1} M parameters", count as f64 / 1e6),
        };
        terminal::note(&format!("{}{size}", part.component));
    };
    write_random(
        args.arch,
        &args.output,
        args.seed,
        args.dtype.kind(),
        &mut progress,
    )?;
    terminal::note(&format!("wrote {}", args.output.display()));
    Ok(())
}
