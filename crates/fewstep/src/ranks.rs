//! A training process that is one of several: who it is, and when it must end though its own work hangs.

use std::io::Read;
use std::thread;
use std::time::Duration;

use fewstep_train::{Config, Ranks, RanksError, Seat, TrainError};
use libtorch_ext::group::end_process;

use crate::{failure, terminal};

/// By this variable of the environment a rank knows that `fewstep launch` holds its standard input.
pub(crate) const LAUNCHED: &str = "FEWSTEP_LAUNCHED";

/// Once another rank is known to be gone, this one has so long to end by itself.
const GRACE: Duration = Duration::from_secs(15);

/// Meets the other ranks, if the environment says that there are some.
///
/// # Errors
/// An environment that contradicts itself, or ranks that do not find one another.
pub(crate) fn meet(seat: Option<Seat>, config: &Config) -> Result<Option<Ranks>, TrainError> {
    let Some(seat) = seat else { return Ok(None) };
    if std::env::var_os(LAUNCHED).is_some() {
        end_with_the_launcher();
    }
    let timeout = Duration::try_from_secs_f64(config.run.rank_timeout).unwrap_or_default();
    let ranks = Ranks::meet(seat, timeout)?;
    end_after(&ranks);
    Ok(Some(ranks))
}

/// Who this process is.
///
/// # Errors
/// An environment that contradicts itself.
pub(crate) fn seat() -> Result<Option<Seat>, RanksError> {
    Seat::of_process()
}

/// Ends the process when another rank is gone and this one does not notice: a device that waits for an operation of
/// all ranks cannot be told.
fn end_after(ranks: &Ranks) {
    let sentinel = ranks.sentinel();
    thread::spawn(move || {
        let verdict = loop {
            match sentinel.verdict() {
                Some(verdict) => break verdict,
                None => thread::sleep(Duration::from_millis(500)),
            }
        };
        thread::sleep(GRACE);
        terminal::note(&format!("error: {verdict}"));
        end_process(1);
    });
}

/// Ends a rank that failed: others may be gone, and nothing waits for them any more.
pub(crate) fn end_with(error: TrainError) -> ! {
    end_process(failure::told(&error.into()).into())
}

/// Ends the process when `fewstep launch` is gone, however it went: nobody would tell the ranks to stop, or show what
/// they say.
fn end_with_the_launcher() {
    thread::spawn(|| {
        let mut nothing = [0; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|count| count > 0) {}
        terminal::note("error: fewstep launch, which started this rank, is gone");
        end_process(1);
    });
}
