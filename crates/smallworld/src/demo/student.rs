//! The students that a demo may have: what they are called, and where their files lie.
//!
//! It starts nothing and paints nothing.

use std::path::PathBuf;

use fewstep_models::lora::DIFFUSERS_FILE;

use crate::paint::Unet;

/// What becomes of a distillation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Student {
    /// A whole UNet, which is told the guidance scale.
    Whole,
    /// Adapters on the teacher's UNet. The guidance is in them.
    Lora,
}

impl Student {
    /// The numbers of steps in which it is shown.
    pub(super) const STEPS: [i64; 4] = [1, 2, 4, 8];

    /// What its rows are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Student::Whole => "student",
            Student::Lora => "LoRA",
        }
    }

    /// The folder of its run, in the demo's.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Student::Whole => "student",
            Student::Lora => "lora",
        }
    }
}

/// A student that has been distilled.
#[derive(Debug, Clone)]
pub(super) struct Distilled {
    pub(super) student: Student,
    /// The folder of its run.
    pub(super) run: PathBuf,
}

impl Distilled {
    /// What is painted with, a folder or a file: of a whole UNet its moving average; of adapters themselves, which
    /// by the end of a run differ little from theirs.
    pub(super) fn weights(&self) -> PathBuf {
        match self.student {
            Student::Whole => self.run.join("unet_target"),
            Student::Lora => self.run.join(DIFFUSERS_FILE),
        }
    }

    /// The same for a painter.
    pub(super) fn unet(&self) -> Unet {
        match self.student {
            Student::Whole => Unet::Other(self.weights()),
            Student::Lora => Unet::Adapted(self.weights()),
        }
    }

    /// One line for each of the run's steps.
    pub(super) fn metrics(&self) -> PathBuf {
        self.run.join("metrics.jsonl")
    }
}
