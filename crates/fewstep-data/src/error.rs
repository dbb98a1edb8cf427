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
        "of {shards} {noun} not one sample could be used in a whole epoch; this is what was dropped and why:\n{drops}"
    )]
    NothingPassed {
        /// Number of shards in an epoch.
        shards: usize,
        /// What they are called.
        noun: &'static str,
        /// Everything dropped so far.
        drops: Box<Drops>,
    },
    /// The cursor was taken from other shards or another folder, another seed or another window.
    #[error(
        "the run to be resumed read its data in another order: the shards (or the folder's files and rows), the seed \
         or the shuffle window have changed since; give the same ones again, or start a new run"
    )]
    OtherOrder,
    /// The epoch ended before the cursor's place was reached.
    #[error(
        "cannot go on at sample {wanted} of epoch {epoch}: the data now hold only {found} samples; they have \
         changed or became unreadable since the checkpoint was written"
    )]
    PlaceIsGone {
        /// Number of the epoch, from 0.
        epoch: u64,
        /// Samples the cursor had seen in this epoch.
        wanted: u64,
        /// Samples found.
        found: u64,
    },
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
