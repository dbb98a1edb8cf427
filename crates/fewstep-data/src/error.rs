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
