//! `fewstep shards`: makes WebDataset shards, and looks into them.

mod inspect;
mod pack;

use std::process::ExitCode;

/// Makes WebDataset shards of a folder of pictures, and says what is in shards.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Pack(pack::Args),
    Inspect(inspect::Args),
}

const EXAMPLES: &str = "\
Examples:
  fewstep shards pack pictures/foxes shards/foxes --shard_size 1000
  fewstep shards inspect shards/foxes";

/// Runs the command that was asked for.
///
/// # Errors
/// Whatever stops it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Pack(args) => pack::run(args),
        Command::Inspect(args) => inspect::run(args),
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "kB", "MB", "GB"];
    let unit = (1..UNITS.len())
        .rev()
        .find(|&unit| bytes >= 1000_u64.pow(unit as u32));
    match unit {
        Some(unit) => format!("{:.1} {}", bytes as f64 / 1000_f64.powi(unit as i32), UNITS[unit]),
        None => format!("{bytes} bytes"),
    }
}
