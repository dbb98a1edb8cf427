//! The program `fewstep`: reads the command line, runs one command, and says in one sentence what went wrong.
//!
//! It knows nothing of how a command does its work: each is a file in [`commands`].

mod answer;
mod argv;
mod choice_flags;
mod cli;
mod commands;
mod device;
mod failure;
mod lora_flags;
mod pace;
mod progress;
mod ranks;
mod terminal;
mod train_flags;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before the first tensor, so that LibTorch's memory is reused from the start.
    libtorch_ext::allocator::keep_freed_memory();
    match cli::parse(std::env::args_os()).and_then(commands::run) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
