//! The commands, one a file.

pub(crate) mod debug;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs the command that was asked for, and returns the status to leave with.
///
/// # Errors
/// Whatever stops it.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Debug(args) => debug::run(&args),
    }
}
