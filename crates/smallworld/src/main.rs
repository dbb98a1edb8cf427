//! The program behind `cargo xtask demo` and `cargo xtask make-teacher`. It reads the command line and says
//! what happens; the library does the work.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use smallworld::teacher::{Recipe, TeacherOptions, make_teacher};
use tch::{Device, Kind};

/// The demo's small world.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains the small teacher that the demo distils, and writes it in diffusers' layout.
    MakeTeacher(MakeTeacher),
}

#[derive(Debug, clap::Args)]
struct MakeTeacher {
    /// The recipe to follow.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/teacher.toml"))]
    recipe: PathBuf,
    /// Only shows that every stage runs: the same networks after a few updates.
    #[arg(long)]
    quick: bool,
    /// Where the teacher goes.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/teacher"))]
    out: PathBuf,
    /// Where unfinished work lies: the same command goes on with it.
    #[arg(long, value_name = "DIR", default_value = "target/teacher")]
    work: PathBuf,
    /// What computes: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = parse_device)]
    device: Device,
    /// In what the networks compute while they are trained; their masters are f32 always.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Threads that draw pictures and numbers ahead; by default half of the processors.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

fn main() -> ExitCode {
    libtorch_ext::allocator::keep_freed_memory();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::MakeTeacher(args) => run_make_teacher(args),
    }
}

fn run_make_teacher(args: MakeTeacher) -> Result<()> {
    prepare(args.device)?;
    let mut recipe = Recipe::load(&args.recipe)?;
    if args.quick {
        recipe = recipe.in_miniature();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let options = TeacherOptions {
        recipe,
        out: args.out,
        work: args.work,
        device: args.device,
        kind: match args.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        },
        threads: args.threads.unwrap_or(processors.div_ceil(2)),
    };
    let started = Instant::now();
    let report = libtorch_ext::catch(|| make_teacher(&options, &mut |line| println!("{line}")))??;
    println!("{report}");
    println!(
        "the teacher is in {}; {:.0} s",
        options.out.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Loads CUDA where it is wanted.
fn prepare(device: Device) -> Result<()> {
    if let Device::Cuda(index) = device {
        libtorch_ext::device::load_cuda();
        let there = tch::Cuda::device_count();
        if there <= index as i64 {
            bail!(
                "this LibTorch sees {there} CUDA devices, so there is no cuda:{index}; use --device cpu, or set \
                 LIBTORCH to a LibTorch with CUDA"
            );
        }
        tch::Cuda::cudnn_set_benchmark(true);
    }
    Ok(())
}

fn parse_device(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => index
            .parse()
            .map(Device::Cuda)
            .map_err(|_| format!("{index:?} is not the number of a device")),
        _ => Err("use cpu, cuda or cuda:N".to_owned()),
    }
}
