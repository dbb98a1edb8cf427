//! What a run tells whoever watches it. The run itself prints nothing.

use std::path::PathBuf;

use fewstep_data::{Drops, Resumed};
use tch::Device;

use crate::metrics::StepMetrics;

/// A watcher of a run. Every method may do nothing.
pub trait Observer {
    /// The run is about to do its first step.
    fn started(&mut self, start: &Start) {
        let _ = start;
    }

    /// An optimiser step is done. Called one step late, when its loss could be read without waiting.
    fn step(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// Something else happened; before the start as well.
    fn event(&mut self, event: &Event) {
        let _ = event;
    }
}

/// Nobody watches.
impl Observer for () {}

/// How a run starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// On what it computes.
    pub device: Device,
    /// Optimiser steps that are done already, and the checkpoint that they come from.
    pub resumed: Option<(u64, PathBuf)>,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
    /// Trainable parameters.
    pub trainable: u64,
}

/// What happens between steps.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run goes on from a checkpoint, but its data not with the very next sample.
    DataMoved(Resumed),
    /// A checkpoint is complete.
    Checkpoint {
        /// After which step.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// An update was skipped because its fp16 gradients overflowed. It is not counted as a step.
    SkippedUpdate {
        /// Steps done.
        step: u64,
        /// The loss scale from now on.
        scale: f64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whether it came to its end.
    pub ending: Ending,
    /// Optimiser steps done, since the start of the run.
    pub steps: u64,
    /// Samples seen.
    pub samples: u64,
    /// Updates skipped because fp16 gradients overflowed.
    pub skipped_updates: u64,
    /// Samples and shards left out, with causes.
    pub dropped: Drops,
}

/// Whether a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done and the results are written.
    Finished,
    /// It was asked to stop; it goes on from this checkpoint when it is started again.
    Interrupted {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
    },
}
