//! The demo: distils the little teacher on this machine, and lays teacher and students side by side, in numbers
//! and in pictures.
//!
//! The parts: shards of the world, the distillation by the program `fewstep`, the evaluation, and the results.

mod shards;

mod student;

mod distil;

mod cost;

mod rows;

mod evaluate;

mod gates;
mod table;

mod font;
mod grid;

mod results;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fewstep_models::weights::Folder;
use fewstep_train::Stop;
use tch::{Device, Kind};

use cost::Cost;
use evaluate::Evaluation;
use results::{Durations, Results};
use student::{Distilled, Student};

/// Of the world that the demo shows, and of the distillation's pictures.
const WORLD_SEED: u64 = 1;

/// How much the demo does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What the numbers in the README come from.
    Full,
    /// A shorter one: fewer steps, and fewer pictures to compare.
    Quick,
}

/// What the demo is told.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How much it does.
    pub size: Size,
    /// The teacher, in diffusers' layout.
    pub teacher: PathBuf,
    /// The configuration of the distillation into a whole UNet.
    pub recipe: PathBuf,
    /// The configuration of one more distillation, into adapters.
    pub lora: Option<PathBuf>,
    /// Optimiser steps of each distillation, in place of the configuration's or the quick demo's.
    pub steps: Option<u64>,
    /// Where everything goes.
    pub out: PathBuf,
    /// On what it computes: `cpu`, `cuda` or `cuda:N`.
    pub device: Device,
    /// In what networks compute.
    pub dtype: Kind,
    /// The program `fewstep`.
    pub fewstep: PathBuf,
}

impl DemoOptions {
    /// The students that there are to be, each with its recipe.
    fn students(&self) -> impl Iterator<Item = (Student, &Path)> {
        let lora = self.lora.as_deref().map(|recipe| (Student::Lora, recipe));
        [(Student::Whole, self.recipe.as_path())].into_iter().chain(lora)
    }
}

impl Size {
    /// Shards of pictures that are drawn for the distillation.
    fn shards(self) -> u64 {
        match self {
            Size::Full => 20,
            Size::Quick => 4,
        }
    }

    /// Steps of the distillation, where they are not the configuration's.
    fn steps(self) -> Option<u64> {
        match self {
            Size::Full => None,
            Size::Quick => Some(300),
        }
    }

    fn evaluation(self) -> Evaluation {
        match self {
            Size::Full => Evaluation {
                pictures: 256,
                seeds: vec![1, 2],
                guidance: vec![8.0, 4.0],
            },
            Size::Quick => Evaluation {
                pictures: 64,
                seeds: vec![1],
                guidance: vec![8.0],
            },
        }
    }
}

/// Runs the demo and returns its results as text. `say` gets a line now and then. The same call goes on where
/// an earlier one stopped: it keeps shards, goes on with the distillation, and evaluates anew.
///
/// # Errors
/// Files that cannot be read or written, a failed distillation, a wish to stop, or what LibTorch refused.
pub fn run(options: &DemoOptions, say: &mut dyn FnMut(&str)) -> Result<String> {
    let stop = Stop::on_signals().context("Ctrl-C and SIGTERM cannot be caught")?;
    let teacher = Folder::open(&options.teacher).with_context(
        || "the demo needs a teacher: `cargo xtask make-teacher` makes one, and --teacher names another",
    )?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("the folder {} could not be made", options.out.display()))?;

    let start = Instant::now();
    let shards = shards::draw(&options.out.join("shards"), options.size.shards(), &stop, say)?;
    let drawn = start.elapsed();

    let start = Instant::now();
    let mut students: Vec<Distilled> = Vec::new();
    for student in options.students() {
        students.push(distil::distil(options, student, &shards, &stop, say)?);
    }
    let costs = students.iter().map(Cost::read).collect::<Result<Vec<_>>>()?;
    let distilled = start.elapsed();

    let start = Instant::now();
    let evaluated = options
        .size
        .evaluation()
        .run(options, &teacher, &students, &stop, say)?;
    let durations = Durations {
        drawn,
        distilled,
        evaluated: start.elapsed(),
    };
    Results::new(options, costs, evaluated, durations).write(&options.out)
}

/// An error once somebody wants the demo to stop.
fn go_on(stop: &Stop) -> Result<()> {
    if stop.is_asked() {
        bail!("stopped; the same command goes on from here");
    }
    Ok(())
}
