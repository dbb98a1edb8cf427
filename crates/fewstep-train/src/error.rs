//! What can stop a training run, in a sentence that says what to do.

use std::path::{Path, PathBuf};

use fewstep_data::DataError;
use fewstep_models::schedule::ScheduleError;
use fewstep_models::weights::ModelError;
use libtorch_ext::TorchError;

use crate::config::ConfigError;

/// Why a run did not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// An option is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A model's folder, file or input is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The teacher's scheduler is wrong.
    #[error("the teacher's scheduler: {0}")]
    Schedule(#[from] ScheduleError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// LibTorch refused an operation.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The operating system refused.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A checkpoint that was asked for and is not there.
    #[error("--resume_from_checkpoint {wanted}: there is no such checkpoint in {}{}", folder.display(), the_others(.found))]
    NoCheckpoint {
        /// What was asked for.
        wanted: String,
        /// The run's folder.
        folder: PathBuf,
        /// The checkpoints that are there.
        found: Vec<String>,
    },
    /// A checkpoint that does not hold what it should.
    #[error("the checkpoint {} {problem}", path.display())]
    BadCheckpoint {
        /// The checkpoint, or the file in it.
        path: PathBuf,
        /// What is wrong, as the rest of the sentence.
        problem: String,
    },
    /// The output folder holds a run with other settings.
    #[error(
        "{} holds a run with other settings ({}); to go on with it give --resume_from_checkpoint latest, or \
         choose another --output_dir",
        folder.display(),
        differences.join("; ")
    )]
    OtherRun {
        /// The run's folder.
        folder: PathBuf,
        /// Each option that differs, with both values.
        differences: Vec<String>,
    },
    /// A tensor given to `debug step` that is missing, unknown or of another shape.
    #[error("tensor `{name}` {problem}")]
    Input {
        /// The tensor.
        name: String,
        /// What is wrong, as the rest of the sentence.
        problem: String,
    },
    /// The loss is not a number.
    #[error(
        "the {what} of step {step} is {value}: the student has diverged or a picture is broken; the samples were \
         {} to {}. Lower --learning_rate, or go on from an earlier checkpoint with --resume_from_checkpoint",
        samples.0,
        samples.1
    )]
    NotFinite {
        /// The loss or the gradient's norm.
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// What it is.
        value: f64,
        /// The first and last sample number of the step.
        samples: (u64, u64),
    },
    /// fp16 gradients that overflow at every scale.
    #[error(
        "every gradient overflowed in fp16, even after the loss scale was lowered to {scale}: the student has \
         diverged, or this model needs --mixed_precision bf16 or no"
    )]
    ScaleExhausted {
        /// The loss scale at the end.
        scale: f64,
    },
    /// A device that cannot be used.
    #[error("--device {wanted}: {reason}")]
    Device {
        /// What was asked for.
        wanted: String,
        /// Why it cannot be had, and what can.
        reason: String,
    },
}

impl TrainError {
    /// An error of the operating system while `doing` something to `path`.
    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        TrainError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// A checkpoint that does not hold what it should; `problem` goes on after the path.
    pub(crate) fn bad_checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        TrainError::BadCheckpoint {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// A tensor that cannot be taken; `problem` goes on after its name.
    pub(crate) fn input(name: &str, problem: impl Into<String>) -> Self {
        TrainError::Input {
            name: name.to_owned(),
            problem: problem.into(),
        }
    }
}

fn the_others(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there are {}", names.join(", ")),
    }
}
