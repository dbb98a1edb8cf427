//! `fewstep completions`: what a shell needs to complete fewstep's command lines, from the definitions that `--help`
//! shows. It knows no command.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::terminal;

/// Prints a script with which a shell completes fewstep's command lines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  fewstep completions bash > ~/.local/share/bash-completion/completions/fewstep
  fewstep completions zsh > ~/.zfunc/_fewstep
  fewstep completions fish > ~/.config/fish/completions/fewstep.fish

For zsh, .zshrc needs `fpath+=~/.zfunc` before `compinit`. A new shell reads the file.";

/// Prints the script.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fewstep", &mut script);
    terminal::result(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
