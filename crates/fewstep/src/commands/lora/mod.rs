//! `fewstep lora`: what is in a file of LoRAs, and the same in another form.

mod convert;
mod inspect;
mod summary;

use std::process::ExitCode;

use fewstep_models::lora::ReadOptions;

/// Says what is in a LoRA's file, or writes it in another form.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Convert(convert::Args),
    Inspect(inspect::Args),
}

/// What a file may not say.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case")]
struct Unsaid {
    /// The layers of a level of the UNet, on which SGM's block names (input_blocks) depend [default: 2, as in all
    /// published Stable Diffusion models]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    layers_per_block: Option<u8>,
}

impl Unsaid {
    /// For the reader.
    fn options(&self) -> ReadOptions {
        let usual = ReadOptions::default();
        ReadOptions {
            layers_per_block: self.layers_per_block.map_or(usual.layers_per_block, usize::from),
            ..usual
        }
    }
}

/// Does what was asked for.
///
/// # Errors
/// Files that cannot be read or written, or hold no LoRA.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Convert(args) => convert::run(args),
        Action::Inspect(args) => inspect::run(args),
    }
}
