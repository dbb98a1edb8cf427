//! `fewstep man`: the manual's pages, from the definitions that `--help` shows. It knows no command.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::terminal;

/// Prints fewstep's page of the manual, or writes the pages of all commands into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write fewstep.1, fewstep-train.1 and those of all other commands into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  fewstep man | man -l -
  fewstep man --out ~/.local/share/man/man1";

/// Prints the page, or writes all of them.
///
/// # Errors
/// A folder that cannot be made or written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut parser = without_help(Cli::command());
    parser.build();
    match &args.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(parser).render(&mut page)?;
            terminal::result(String::from_utf8_lossy(&page).trim_end());
        }
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(parser, folder))
                .with_context(|| format!("the manual cannot be written into {}", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Without the command `help`, which would be a second page for each of the others.
fn without_help(command: Command) -> Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help)
}
