//! Whether data are good enough to go on with. It reads nothing and counts nothing itself.

use crate::config::GivingUp;
use crate::drops::Drops;
use crate::error::DataError;

/// So many samples must have been looked at, before an epoch is over, to judge by them.
const FEWEST_SAMPLES: u64 = 100;

/// So many shards must have been opened.
const FEWEST_SHARDS: u64 = 20;

/// When it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// More may come of this epoch.
    WithinEpoch,
    /// Everything has been seen once more.
    EpochEnd,
}

/// What an order of samples has come to so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sofar<'a> {
    /// What was left out.
    pub(crate) drops: &'a Drops,
    /// Samples that were delivered.
    pub(crate) passed: u64,
    /// Shards that were opened, or could not be.
    pub(crate) opened: u64,
}

/// Judges by what came and what was dropped.
///
/// # Errors
/// Too much of it was bad.
pub(crate) fn judge(limits: &GivingUp, sofar: Sofar<'_>, moment: Moment) -> Result<(), DataError> {
    let Sofar {
        drops,
        passed,
        opened,
    } = sofar;
    let too_many = |what, bad: u64, of: u64, fewest| {
        let enough = of >= fewest || moment == Moment::EpochEnd;
        let too_many = enough && bad as f64 > limits.max_bad_fraction * of as f64;
        too_many.then(|| DataError::TooManyBad {
            what,
            bad,
            of,
            limit: limits.max_bad_fraction,
            drops: Box::new(drops.clone()),
        })
    };
    let samples = too_many(
        "samples",
        drops.broken_samples(),
        passed + drops.samples(),
        FEWEST_SAMPLES,
    );
    let shards = || too_many("shards", drops.lost_shards(), opened, FEWEST_SHARDS);
    samples.or_else(shards).map_or(Ok(()), Err)
}
