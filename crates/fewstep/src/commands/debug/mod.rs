//! `fewstep debug`: single parts of the program on tensors from a file, for parity checks and for finding NaNs.

mod forward;
mod inputs;

use std::process::ExitCode;

/// Replays one part of the program on tensors from a safetensors file and writes its results to another;
/// or makes a random model.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    Forward(forward::Args),
}

/// Runs the part that was asked for.
///
/// # Errors
/// Wrong tensors, wrong models, and what LibTorch refuses.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.part {
        Part::Forward(args) => forward::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
