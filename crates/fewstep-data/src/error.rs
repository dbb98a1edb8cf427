//! What stops a loader. What does not stop it is a [`Dropped`](crate::Dropped) sample instead.

use crate::drops::Drops;
use crate::folder::FolderError;
use crate::spec::SpecError;

/// Why there is no loader, or no next batch.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The shard specs are wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The folder of pictures is none, or its columns are wrong.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// An option has an impossible value.
    #[error("the {what} {why}")]
    Config {
        /// The option in words.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A whole epoch delivered nothing.
    #[error(
        "of {shards} {noun} not one sample could be used in a whole epoch; this is what was dropped and why:\n{drops}{}",
        .drops.advice()
    )]
    NothingPassed {
        /// Number of shards in an epoch.
        shards: usize,
        /// What they are called.
        noun: &'static str,
        /// Everything dropped so far.
        drops: Box<Drops>,
    },
    /// Too much of the data is bad.
    #[error(
        "{bad} of {of} {what} could not be used, more than the fraction of {limit} that --max_bad_fraction allows; \
         this is what was dropped and why:\n{drops}{}",
        .drops.advice()
    )]
    TooManyBad {
        /// Samples or shards.
        what: &'static str,
        /// How many could not be used.
        bad: u64,
        /// How many were looked at.
        of: u64,
        /// The fraction allowed.
        limit: f64,
        /// Everything dropped so far.
        drops: Box<Drops>,
    },
    /// No usable sample came for too long.
    #[error(
        "no usable sample came for {waited:.0} s, the longest wait that --max_data_wait allows; this is what was \
         dropped or tried again:\n{drops}{}",
        .drops.advice()
    )]
    Stalled {
        /// Seconds.
        waited: f64,
        /// Everything dropped so far.
        drops: Box<Drops>,
    },
    /// A cursor that no loader gave.
    #[error(
        "the place in the data that the run is to go on from holds numbers that no data have: the checkpoint is \
         damaged; go on from an earlier one"
    )]
    BadCursor,
    /// A batch was asked for after an error.
    #[error("the data loader has stopped because of an earlier error")]
    Ended,
    /// The system gave no thread.
    #[error("cannot start the thread {name}: {source}; use fewer data loader workers")]
    Spawn {
        /// Name of the thread.
        name: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread panicked.
    #[error("the thread {name} ended unexpectedly; this is a defect of fewstep, please report it")]
    ThreadDied {
        /// Name of the thread.
        name: &'static str,
    },
}
