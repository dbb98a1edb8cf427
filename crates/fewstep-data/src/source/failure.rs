//! Why bytes do not come: for good, or only for now. It knows no kind of place.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::drops::Cause;

/// What a place answers instead of bytes.
#[derive(Debug)]
pub(super) enum Failure {
    /// Asking again would not help.
    Final(Failed),
    /// Asking again may help.
    Passing(Passing),
}

impl Failure {
    /// A shard that cannot be opened, however often one asks. `what` is the rest of a sentence that begins with the
    /// shard's name.
    pub(super) fn unreadable(what: impl Into<String>) -> Self {
        Failure::Final(Failed {
            cause: Cause::UnreadableShard,
            what: what.into(),
        })
    }

    /// A shard that is not what it was when its first bytes were read.
    pub(super) fn changed(what: impl Into<String>) -> Self {
        Failure::Final(Failed {
            cause: Cause::BrokenShard,
            what: what.into(),
        })
    }

    /// Trouble that may pass.
    pub(super) fn passing(trouble: Trouble, what: impl Into<String>) -> Self {
        Failure::Passing(Passing {
            trouble,
            what: what.into(),
            wait: None,
        })
    }
}

/// Trouble that may pass.
#[derive(Debug, Clone)]
pub(super) struct Passing {
    /// Its kind.
    pub(super) trouble: Trouble,
    /// The rest of a sentence that begins with the shard's name.
    pub(super) what: String,
    /// How long the other side asks to be left alone.
    pub(super) wait: Option<Duration>,
}

/// The kinds of trouble that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no connection, or it broke.
    Connection,
    /// Not a byte came for too long.
    Silence,
    /// The server says that it cannot answer now.
    Server,
    /// A command failed.
    Command,
}

impl Trouble {
    /// What it counts as where it is tried again.
    pub(super) fn retried(self) -> Cause {
        match self {
            Trouble::Connection => Cause::RetriedConnection,
            Trouble::Silence => Cause::RetriedSilence,
            Trouble::Server => Cause::RetriedServer,
            Trouble::Command => Cause::RetriedCommand,
        }
    }

    /// What it counts as where it was tried often enough.
    pub(super) fn given_up(self) -> Cause {
        match self {
            Trouble::Connection | Trouble::Server => Cause::UnreachableShard,
            Trouble::Silence => Cause::SilentShard,
            Trouble::Command => Cause::FailedCommand,
        }
    }
}

/// The end of a shard that was not read to its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub(super) struct Failed {
    /// What it counts as.
    pub(super) cause: Cause,
    /// The rest of a sentence that begins with the shard's name.
    pub(super) what: String,
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        io::Error::other(failed)
    }
}

/// What `error`, met in opening or reading a source, counts as; `otherwise` where it does not say.
pub(crate) fn cause_of(error: &io::Error, otherwise: Cause) -> Cause {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Failed>())
        .map_or(otherwise, |failed| failed.cause)
}

/// The errors that `error` comes from, itself first.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
