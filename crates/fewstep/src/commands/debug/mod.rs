//! `fewstep debug`: single parts of the program on tensors from a file, for parity checks and for finding NaNs.

mod forward;
mod init;
mod inputs;
mod sample;
mod step;

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
    Init(init::Args),
    Forward(forward::Args),
    Step(Box<step::Args>),
    Sample(sample::Args),
}

/// Runs the part that was asked for.
///
/// # Errors
/// Wrong tensors, wrong models, and what LibTorch refuses.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.part {
        Part::Init(args) => init::run(args),
        Part::Forward(args) => forward::run(args),
        Part::Step(args) => step::run(args),
        Part::Sample(args) => sample::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
