//! The program behind `cargo xtask demo` and `cargo xtask make-teacher`. It reads the command line and says
//! what happens; the library does the work.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use smallworld::demo::{self, DemoOptions, Size};
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
    /// Distils the small teacher on this machine, and lays teacher and student side by side.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Demo),
}

const DEMO_EXAMPLES: &str = "\
Examples:
  cargo xtask demo                    the teacher and a whole student
  cargo xtask demo --lora             the same, and adapters beside them
  cargo xtask demo --lora --quick     in a few minutes, with fewer pictures

The same command goes on where it was interrupted. With --lora it keeps the student that an earlier
demo left in the same folder, distils the adapters besides, and compares all anew.";

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

#[derive(Debug, clap::Args)]
struct Demo {
    /// A shorter demo: fewer steps, and fewer pictures to compare.
    #[arg(long)]
    quick: bool,
    /// Distil adapters (LoRA) too, and show them beside the whole student: trained numbers, size of the file,
    /// time, memory, and how well they paint.
    #[arg(long)]
    lora: bool,
    /// Where everything goes [default: target/demo, and target/demo-quick for the quick one].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The teacher, in diffusers' layout.
    #[arg(long, value_name = "DIR", default_value = "demo/teacher")]
    teacher: PathBuf,
    /// How it is distilled: a configuration of `fewstep train`.
    #[arg(long, value_name = "FILE", default_value = "demo/distil.toml")]
    recipe: PathBuf,
    /// How it is distilled into adapters: the same, with the method lora.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "demo/distil-lora.toml",
        requires = "lora"
    )]
    lora_recipe: PathBuf,
    /// Optimiser steps of each distillation, in place of the recipes'.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// What computes: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = parse_device)]
    device: Device,
    /// In what the networks compute [default: bf16 where the device has arithmetic for it].
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
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
        Command::Demo(args) => run_demo(args),
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
        kind: args.dtype.kind(),
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

fn run_demo(args: Demo) -> Result<()> {
    prepare(args.device)?;
    let size = if args.quick { Size::Quick } else { Size::Full };
    let out = match size {
        Size::Full => "target/demo",
        Size::Quick => "target/demo-quick",
    };
    let this = std::env::current_exe().context("the folder of this program could not be found")?;
    let options = DemoOptions {
        size,
        teacher: args.teacher,
        recipe: args.recipe,
        lora: args.lora.then_some(args.lora_recipe),
        steps: args.steps,
        out: args.out.unwrap_or_else(|| out.into()),
        device: args.device,
        dtype: args.dtype.unwrap_or_else(|| Dtype::fast_on(args.device)).kind(),
        fewstep: this.with_file_name(format!("fewstep{}", std::env::consts::EXE_SUFFIX)),
    };
    let text = libtorch_ext::catch(|| demo::run(&options, &mut |line| println!("{line}")))??;
    println!("{text}");
    Ok(())
}

impl Dtype {
    fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        }
    }

    /// bf16, unless it would be emulated.
    fn fast_on(device: Device) -> Self {
        #[cfg(target_arch = "x86_64")]
        let processor = std::arch::is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let processor = false;
        if processor || device != Device::Cpu {
            Dtype::Bf16
        } else {
            Dtype::F32
        }
    }
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
