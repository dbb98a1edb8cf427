//! Where a run is reported besides metrics.jsonl: TensorBoard's event files, and offline runs of Weights & Biases.
//!
//! A tracker that fails never ends the run: that is told once, what it lost is counted, and it is tried again with the
//! next record. A run that goes on continues its files, without what came after the checkpoint. This module knows what
//! is reported; the formats are the files' below it.

mod file;
mod leveldb;
mod media;
mod tensorboard;
mod tfrecord;
mod wandb;

use std::path::{Path, PathBuf};

use crate::config::{Config, ReportTo};
use crate::error::TrainError;
use crate::metrics::StepMetrics;
use crate::observer::{Event, Observer};
use tensorboard::TensorBoard;
use wandb::Wandb;

/// A place where a run is reported.
trait Tracker: std::fmt::Debug {
    /// Its name, as `--report_to` has it.
    fn name(&self) -> &'static str;
    /// Reports the numbers of a step.
    fn step(&mut self, step: u64, time: f64, scalars: &[(&'static str, f64)]) -> Result<(), TrainError>;
    /// Reports a picture (PNG) under a name, after a step.
    fn picture(&mut self, step: u64, time: f64, picture: &Picture<'_>) -> Result<(), TrainError>;
    /// The process leaves the run: done with it, or not.
    fn close(&mut self, end: End) -> Result<(), TrainError>;
}

/// A picture to report.
#[derive(Debug)]
struct Picture<'a> {
    /// What it is called.
    name: &'a str,
    /// What is to be seen.
    caption: &'a str,
    /// The bytes of a PNG file.
    png: &'a [u8],
    /// Width and height in pixels.
    size: [usize; 2],
}

/// How a process leaves a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is done.
    Finished,
    /// It may go on.
    Interrupted,
}

/// Where and how a run begins to be reported.
#[derive(Debug, Clone, Copy)]
struct Beginning<'a> {
    folder: &'a Path,
    config: &'a Config,
    /// The step that the run goes on after; none where it starts.
    resumed: Option<u64>,
}

/// All trackers of a run.
#[derive(Debug, Default)]
pub(crate) struct Trackers {
    all: Vec<Reporting>,
}

#[derive(Debug)]
struct Reporting {
    tracker: Box<dyn Tracker>,
    /// Records that could not be written.
    lost: u64,
}

impl Trackers {
    /// Opens those that the options ask for, to go on after `resumed`. One that cannot be opened is told of.
    pub(crate) fn open(config: &Config, resumed: Option<u64>, observer: &mut dyn Observer) -> Self {
        let folder = folder(config);
        let beginning = Beginning {
            folder: &folder,
            config,
            resumed,
        };
        let mut all = Vec::new();
        let mut open = |name, tracker: Result<Box<dyn Tracker>, TrainError>| match tracker {
            Ok(tracker) => all.push(Reporting { tracker, lost: 0 }),
            Err(error) => tell(name, &error, observer),
        };
        let (board, wandb) = match config.run.report_to {
            ReportTo::Tensorboard => (true, false),
            ReportTo::Wandb => (false, true),
            ReportTo::All => (true, true),
            ReportTo::None => (false, false),
        };
        if board {
            let tracker = TensorBoard::open(beginning);
            open(
                tensorboard::NAME,
                tracker.map(|tracker| Box::new(tracker) as Box<dyn Tracker>),
            );
        }
        if wandb {
            let tracker = Wandb::open(beginning);
            open(
                wandb::NAME,
                tracker.map(|tracker| Box::new(tracker) as Box<dyn Tracker>),
            );
        }
        Trackers { all }
    }

    /// Reports a step.
    pub(crate) fn step(&mut self, metrics: &StepMetrics, observer: &mut dyn Observer) {
        let scalars = scalars(metrics);
        self.each(observer, |tracker| {
            tracker.step(metrics.step, metrics.time, &scalars)
        });
    }

    /// Reports a PNG file of a picture, under `name`.
    pub(crate) fn picture(
        &mut self,
        (step, time): (u64, f64),
        (name, caption): (&str, &str),
        path: &Path,
        observer: &mut dyn Observer,
    ) {
        if self.all.is_empty() {
            return;
        }
        let read = std::fs::read(path).map_err(|error| TrainError::io("read", path, error));
        let png = read.unwrap_or_default();
        let Some(size) = media::png_size(&png) else { return };
        let picture = Picture {
            name,
            caption,
            png: &png,
            size,
        };
        self.each(observer, |tracker| tracker.picture(step, time, &picture));
    }

    /// Leaves the run, and says what was lost.
    pub(crate) fn close(&mut self, end: End, observer: &mut dyn Observer) {
        self.each(observer, |tracker| tracker.close(end));
        for Reporting { tracker, lost } in &self.all {
            if *lost > 0 {
                observer.event(&Event::TrackerLost {
                    tracker: tracker.name(),
                    records: *lost,
                });
            }
        }
    }

    fn each(
        &mut self,
        observer: &mut dyn Observer,
        mut report: impl FnMut(&mut dyn Tracker) -> Result<(), TrainError>,
    ) {
        for Reporting { tracker, lost } in &mut self.all {
            if let Err(error) = report(tracker.as_mut()) {
                if *lost == 0 {
                    tell(tracker.name(), &error, observer);
                }
                *lost += 1;
            }
        }
    }
}

/// Where trackers write.
fn folder(config: &Config) -> PathBuf {
    config.run.output_dir.join(&config.run.logging_dir)
}

fn tell(tracker: &'static str, error: &TrainError, observer: &mut dyn Observer) {
    observer.event(&Event::TrackerFails {
        tracker,
        reason: error.to_string(),
    });
}

/// The numbers of a step that trackers show.
fn scalars(metrics: &StepMetrics) -> Vec<(&'static str, f64)> {
    let sum = |counts: &serde_json::Map<String, serde_json::Value>| -> f64 {
        // An empty sum is -0, which looks odd.
        let counts = counts.values().filter_map(serde_json::Value::as_f64);
        counts.fold(0.0, |sum, count| sum + count)
    };
    let mut scalars = vec![
        ("loss", metrics.loss),
        ("lr", metrics.lr),
        ("grad_norm", metrics.grad_norm),
        ("samples", metrics.samples as f64),
        ("samples_per_s", metrics.samples_per_s),
        ("data_wait_s", metrics.data_wait_s),
        ("dropped", sum(&metrics.dropped)),
        ("skipped", sum(&metrics.skipped)),
    ];
    scalars.extend(metrics.memory_gb.map(|memory| ("memory_gb", memory)));
    scalars
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
