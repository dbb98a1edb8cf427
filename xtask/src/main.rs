//! The chores of the workspace. `cargo xtask` lists them.
//!
//! It runs before LibTorch is there, so it links nothing of ours: what needs LibTorch runs as a program of
//! its own.

mod check;
mod fuzz;
mod licences;
mod link;
mod memory;
mod ranks;
mod run;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::Flavour;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The chores of fewstep's workspace",
    disable_version_flag = true
)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Get LibTorch, once, into a cache that all checkouts share
    Setup {
        /// The build for CUDA (about 2.8 GB to download) instead of the slim one for the CPU
        #[arg(long)]
        cuda: bool,
    },
    /// Distil the small world's teacher on this machine, and show what came of it
    Demo {
        /// Passed on: --quick, --lora, --out DIR, and what `cargo xtask demo -- --help` shows
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Train the small world's teacher anew (one to three hours on two cores)
    MakeTeacher {
        /// Passed on: see `cargo xtask make-teacher -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run all tests; what follows goes to `cargo test`
    Test {
        /// Passed on to `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Kill a small run again and again, and compare it with one that was left alone (minutes)
    KillTest {
        /// How often
        #[arg(long, default_value_t = 100)]
        times: u32,
    },
    /// Feed made-up input to what reads files from strangers (needs cargo-fuzz): see fuzz/README.md
    Fuzz {
        /// One target; all of them, one after another, where none is named
        target: Option<String>,
        /// For each target; with 0 the inputs that are kept run once
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Look for faults without running anything: format, spelling, licences, clippy, documentation
    Check,
    /// Ask the advisory database about the dependencies (needs cargo-deny and the open internet)
    Audit,
    /// Time a training step against the reference's, in turns (needs its packages; most of an hour)
    Bench {
        /// Passed on to tools/reference/bench_train.py, as --rounds or --methods
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Time the data path against the reference's, one core each (needs its packages)
    BenchData {
        /// Passed on to tools/reference/bench_data.py
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Time a step of two ranks with a thread each against one process with two threads (minutes; about 15 GB)
    BenchRanks {
        /// A model's folder, like one that `fewstep debug init` makes
        model: std::path::PathBuf,
        /// Steps that are timed, of each run
        #[arg(long, default_value_t = 3)]
        steps: u64,
    },
    /// Train two ranks over a slow link that loses packets, and compare (a minute; needs root, iproute2 and python3)
    LinkTest {
        /// How long a packet takes, in milliseconds
        #[arg(long, default_value_t = 20.0)]
        delay: f64,
        /// The share of packets that are lost, from 0 to 1
        #[arg(long, default_value_t = 0.01)]
        loss: f64,
    },
    /// Compare the memory that `fewstep train --dry_run` plans with what runs take (minutes; at least 8 GB)
    CheckMemory {
        /// A model's folder, like one that `fewstep debug init` makes
        model: std::path::PathBuf,
    },
    /// Make the fixtures anew with the reference (needs the packages of tools/reference/requirements.txt)
    Fixtures,
    /// Compare fewstep with the reference on random models (needs the same packages)
    Parity {
        /// Passed on to tools/reference/check_unseen.py
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Setup { cuda } => setup::setup(if cuda { Flavour::Cuda } else { Flavour::Cpu }),
        Chore::Demo { args } => run::smallworld("demo", &args),
        Chore::MakeTeacher { args } => run::smallworld("make-teacher", &args),
        Chore::Test { args } => run::tests(&args),
        Chore::KillTest { times } => run::kill_test(times),
        Chore::Fuzz { target, minutes } => fuzz::fuzz(target.as_deref(), minutes),
        Chore::Check => check::check(),
        Chore::Audit => run::command("cargo", &["deny", "check", "advisories"]),
        Chore::Bench { args } => run::bench(&args),
        Chore::BenchData { args } => run::bench_data(&args),
        Chore::BenchRanks { model, steps } => ranks::bench(&model, steps),
        Chore::LinkTest { delay, loss } => link::test(delay, loss),
        Chore::CheckMemory { model } => memory::check(&model),
        Chore::Fixtures => run::reference("make_fixtures.py", &[]),
        Chore::Parity { args } => run::parity(&args),
    }
}
