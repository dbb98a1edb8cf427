//! What can stop a training run, in a sentence that says what to do.

use std::path::{Path, PathBuf};

use fewstep_data::DataError;
use fewstep_data::cache::CacheError;
use fewstep_models::schedule::ScheduleError;
use fewstep_models::weights::ModelError;
use libtorch_ext::TorchError;

use crate::config::{ConfigError, OnNan};
use crate::not_finite::NotFinite;
use crate::out_of_memory::OutOfMemory;
use crate::picture::PictureError;
use crate::ranks::RanksError;

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
    /// The cache's folder cannot be used.
    #[error("--cache_dir: {0}")]
    Cache(#[from] CacheError),
    /// LibTorch refused an operation.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Ranks that do not train together, or one that is gone.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// A picture could not be written.
    #[error(transparent)]
    Picture(Box<PictureError>),
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
    /// Another run works in the folder.
    #[error(
        "{} is in use by another run: {holder}; wait for its end or stop it, or choose another --output_dir",
        folder.display()
    )]
    Locked {
        /// The run's folder.
        folder: PathBuf,
        /// Who holds its lock.
        holder: String,
    },
    /// Checkpoints of which none is whole.
    #[error(
        "no checkpoint in {} is whole: {}; bring one of them back from a copy, or choose another --output_dir to start \
         anew",
        folder.display(),
        damaged.join("; ")
    )]
    AllDamaged {
        /// The run's folder.
        folder: PathBuf,
        /// The first damaged file of each.
        damaged: Vec<String>,
    },
    /// A checkpoint or the results could not be written.
    #[error("{what} could not be saved: {source}; {left}")]
    NotSaved {
        /// Which.
        what: String,
        /// Why not.
        source: Box<TrainError>,
        /// What there is all the same.
        left: Left,
    },
    /// The system gave no thread.
    #[error("there is no thread to save on: {source}")]
    NoThread {
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that saves panicked.
    #[error("the thread that saves ended unexpectedly; this is a defect of fewstep, please report it")]
    SaverDied,
    /// The folder holds a finished run that the options do not describe, and no checkpoint.
    #[error(
        "{} holds a run that finished after {steps} steps and left no checkpoint to go on from{}; choose another \
         --output_dir, or remove that folder to train anew",
        folder.display(),
        in_brackets(.differences)
    )]
    FinishedRun {
        /// The run's folder.
        folder: PathBuf,
        /// Steps that it did.
        steps: u64,
        /// Each option that differs, with both values.
        differences: Vec<String>,
    },
    /// A checkpoint that does not hold what it should.
    #[error("the checkpoint {} {problem}", path.display())]
    BadCheckpoint {
        /// The checkpoint, or the file in it.
        path: PathBuf,
        /// What is wrong, as the rest of the sentence.
        problem: String,
    },
    /// A checkpoint that holds the optimiser's moments in another form than is wanted.
    #[error(
        "the checkpoint {} holds AdamW's moments in {}: {} to go on with it, or choose another --output_dir to start \
         anew",
        checkpoint.display(),
        if *.eight_bits { "8 bits" } else { "32 bits" },
        if *.eight_bits { "give --use_8bit_adam" } else { "leave --use_8bit_adam out" },
    )]
    OtherMoments {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Whether it holds them in 8 bits.
        eight_bits: bool,
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
    /// Too many updates were not finite.
    #[error(
        "{}, the last one after step {step}: {found}. {}, or {}; {replay}",
        updates_of_late(*.skipped),
        found.remedy(),
        last_resort(*.on_nan)
    )]
    NotFinite {
        /// Such updates of late.
        skipped: u64,
        /// What the options say of them.
        on_nan: OnNan,
        /// Optimiser steps done.
        step: u64,
        /// The last of them.
        found: Box<NotFinite>,
        /// Where its inputs are, or why they are nowhere, as a sentence.
        replay: String,
    },
    /// A device or the machine ran out of memory.
    #[error(transparent)]
    OutOfMemory(#[from] Box<OutOfMemory>),
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

/// What a save that failed leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing: it was the first.
    Nothing,
    /// The last checkpoint that is whole.
    Checkpoint(PathBuf),
    /// All of the results, in this folder; only the checkpoint of the end is missing.
    Results(PathBuf),
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Left::Nothing => f.write_str("there is no earlier checkpoint; make room, and start again"),
            Left::Checkpoint(path) => write!(
                f,
                "{} is the last checkpoint that is whole; make room, and give the same command again to go on from \
                 there",
                path.display()
            ),
            Left::Results(folder) => write!(
                f,
                "the results in {} are complete all the same; only a longer run would have to go on from an earlier \
                 checkpoint",
                folder.display()
            ),
        }
    }
}

impl From<PictureError> for TrainError {
    fn from(error: PictureError) -> Self {
        TrainError::Picture(Box::new(error))
    }
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

fn updates_of_late(count: u64) -> String {
    match count {
        1 => "an update was not finite".to_owned(),
        count => format!("{count} updates of late were not finite"),
    }
}

fn last_resort(on_nan: OnNan) -> &'static str {
    match on_nan {
        OnNan::Stop => "pass over such updates with --on_nan skip",
        OnNan::Skip => "raise --nan_limit",
    }
}

fn in_brackets(differences: &[String]) -> String {
    match differences {
        [] => String::new(),
        differences => format!(" ({})", differences.join("; ")),
    }
}

fn the_others(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there are {}", names.join(", ")),
    }
}
