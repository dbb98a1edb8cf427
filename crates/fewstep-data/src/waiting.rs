//! How long a loader has waited for a usable sample, and what came instead meanwhile. It knows no sources.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::assemble::Outcome;
use crate::drops::Drops;
use crate::error::DataError;

/// What came since the last batch. Clones share it, so that one thread may note and another look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the last usable sample came.
    passed: Option<Instant>,
    /// What was dropped since the last batch.
    dropped: Drops,
}

impl Waiting {
    /// Takes note of one more outcome.
    pub(crate) fn note(&self, outcome: &Outcome) {
        let mut state = self.state();
        match outcome {
            Outcome::Drawn(Ok(_)) => state.passed = Some(Instant::now()),
            Outcome::Drawn(Err(dropped)) | Outcome::Dropped(dropped) => state.dropped.add(dropped.clone()),
            Outcome::EpochEnd { .. } => {}
        }
    }

    /// A batch is complete: what was dropped before is told with it.
    pub(crate) fn batch_is_complete(&self) {
        self.state().dropped = Drops::default();
    }

    /// The moment at which whoever has waited since `asked` has waited for `limit` in vain. `None`: never.
    pub(crate) fn deadline(&self, asked: Instant, limit: Duration) -> Option<Instant> {
        let since = self.state().passed.map_or(asked, |passed| passed.max(asked));
        since.checked_add(limit)
    }

    /// The error of a wait in vain, which counts what came instead of samples since the last batch.
    pub(crate) fn in_vain(&self, limit: Duration) -> DataError {
        DataError::Stalled {
            waited: limit.as_secs_f64(),
            drops: Box::new(self.state().dropped.clone()),
        }
    }

    /// A thread that panicked while it held the lock left nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
