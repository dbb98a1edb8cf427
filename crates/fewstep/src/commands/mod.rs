//! The commands, one a file.

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod debug;
pub(crate) mod generate;
pub(crate) mod launch;
pub(crate) mod lora;
pub(crate) mod man;
pub(crate) mod shards;
pub(crate) mod train;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs the command that was asked for, and returns the status to leave with.
///
/// # Errors
/// Whatever stops it.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Launch(args) => launch::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Lora(args) => lora::run(&args),
        Command::Shards(args) => shards::run(&args),
        Command::Debug(args) => debug::run(&args),
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args),
    }
}
