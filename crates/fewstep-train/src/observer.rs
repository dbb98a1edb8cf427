//! What a run tells whoever watches it. The run itself prints nothing.

use std::path::PathBuf;

use fewstep_data::cache::Note;
use fewstep_data::{Drops, Resumed};
use tch::Device;

use crate::fill::Estimate;
use crate::metrics::StepMetrics;
use crate::not_finite::NotFinite;
use crate::out_of_memory::TooMuch;
use crate::plan::Checkpointed;
use crate::profile::Profiled;
use crate::skipped::Skipped;

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
    /// How many ranks share the run; 1 where this process is alone.
    pub ranks: u64,
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
    /// A checkpoint could not be written, and the run goes on. Those before it are untouched.
    NotSaved {
        /// After which step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// metrics.jsonl cannot be written, and the run goes on. Its lines are kept, and written once that is possible.
    MetricsNotWritten {
        /// Why.
        reason: String,
    },
    /// So many pieces of the student are computed again, as the memory that there is demands.
    Checkpointing(Checkpointed),
    /// The run is planned to take more memory than there is. It begins all the same.
    TooMuch(Box<TooMuch>),
    /// `--zero 1` in a run of one rank, which has nobody to share with: it does nothing.
    NothingToShare,
    /// The run keeps latents and embeddings in a cache.
    Cache(Estimate),
    /// A tracker cannot be opened, or lost its first record. The run goes on.
    TrackerFails {
        /// Which, as `--report_to` has it.
        tracker: &'static str,
        /// Why.
        reason: String,
    },
    /// At the end: records that a tracker lost.
    TrackerLost {
        /// Which.
        tracker: &'static str,
        /// How many.
        records: u64,
    },
    /// Validation pictures are painted.
    Validated {
        /// After which step.
        step: u64,
        /// The grid of them.
        path: PathBuf,
    },
    /// Validation pictures could not be painted or written, and the run goes on.
    NotValidated {
        /// After which step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// Steps were recorded, and what was is written.
    Profiled(Box<Profiled>),
    /// Something about the cache that changes nothing of what is computed.
    CacheNote(Note),
    /// An update was skipped. It is not counted as a step.
    SkippedUpdate {
        /// Steps done.
        step: u64,
        /// Why.
        cause: Skip,
    },
    /// A checkpoint was passed over, since a file of it does not hold what was written.
    DamagedCheckpoint {
        /// The file, and what is wrong with it.
        damage: String,
        /// Where the checkpoint's folder is now.
        moved_to: PathBuf,
    },
    /// The file system has no locks: nothing keeps another run out of the folder.
    NoLock {
        /// The run's folder.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Why an update was skipped.
#[derive(Debug, Clone, PartialEq)]
pub enum Skip {
    /// Its fp16 gradients overflowed.
    Overflow {
        /// The loss scale from now on.
        scale: f64,
    },
    /// Its loss or its gradient was not finite.
    NotFinite(NotFinite),
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
    /// Updates skipped since the start of the run.
    pub skipped: Skipped,
    /// Samples and shards left out, with causes.
    pub dropped: Drops,
}

/// Whether a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done and the results are written.
    Finished,
    /// They were before it was started: nothing was done.
    FinishedBefore,
    /// It was asked to stop; it goes on from this checkpoint when it is started again.
    Interrupted {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
    },
}
