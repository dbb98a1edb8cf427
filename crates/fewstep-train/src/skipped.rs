//! Updates that were not done, counted by cause, and when there are too many of them.

use serde::{Deserialize, Serialize};

/// Of so many updates the recent ones that were not finite are counted against the limit.
pub(crate) const WINDOW: u64 = 1000;

/// The updates that were skipped since the start of the run. They are no optimiser steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Since fp16 gradients overflowed at the loss scale of that time.
    pub overflow: u64,
    /// Since the loss or the gradient was not finite.
    pub not_finite: u64,
    /// The numbers of the latter among the last updates.
    recent: Vec<u64>,
}

impl Skipped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.overflow + self.not_finite
    }

    /// Takes note of an update that was not finite, after `steps` that were done. Returns how many such there were
    /// of late.
    pub(crate) fn add_not_finite(&mut self, steps: u64) -> u64 {
        self.not_finite += 1;
        let number = steps + self.total();
        self.recent.push(number);
        self.recent.retain(|&earlier| earlier + WINDOW > number);
        self.recent.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recent_ones_count_against_the_limit() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.add_not_finite(0), 1);
        assert_eq!(skipped.add_not_finite(0), 2);
        assert_eq!(skipped.add_not_finite(997), 3);
        // The first is a thousand updates ago.
        assert_eq!(skipped.add_not_finite(997), 3);
        assert_eq!(skipped.add_not_finite(5000), 1);
        assert_eq!((skipped.not_finite, skipped.total()), (5, 5));
    }
}
