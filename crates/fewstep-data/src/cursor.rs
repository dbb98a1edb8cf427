//! A place in the order of samples. It knows nothing of threads or batches.

use serde::{Deserialize, Serialize};

use crate::drops::Drops;

/// The place after some sample: what a checkpoint keeps of the data. It is small and serialisable, and it means the
/// same whatever the number of threads or the batch size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which order this is a place in: a digest of seed, window and shards.
    pub(crate) order: String,
    /// Number of the epoch, from 0.
    pub(crate) epoch: u64,
    /// Samples of this epoch that were drawn, whether or not their picture could be used.
    pub(crate) drawn: u64,
    /// Samples of this epoch that were delivered.
    pub(crate) passed: u64,
    /// Samples delivered in all epochs together; the number of the next sample.
    pub(crate) samples: u64,
    /// Everything dropped up to here.
    pub(crate) drops: Drops,
}

impl Cursor {
    /// The beginning of `order`.
    pub(crate) fn start(order: String) -> Self {
        Cursor {
            order,
            epoch: 0,
            drawn: 0,
            passed: 0,
            samples: 0,
            drops: Drops::default(),
        }
    }

    /// Samples delivered so far, all epochs together. It is also the number of the next sample.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The epoch that is being read, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything dropped so far.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }
}
