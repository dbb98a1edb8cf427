//! How long one asks again: after growing waits, up to a limit, each time counted. It knows nothing of what is asked for.

use std::future::Future;
use std::time::{Duration, Instant};

use super::access::Access;
use super::failure::{Failed, Failure, Passing, Trouble};
use crate::drops::Dropped;

/// What is left of the willingness to ask again.
pub(super) struct Patience<'a> {
    name: &'a str,
    access: &'a Access,
    /// How often to ask again.
    retries: u32,
    /// How often it was asked in vain, in a row.
    failures: u32,
    /// How long the first of these times took, and when it ended.
    first: (Duration, Instant),
}

impl<'a> Patience<'a> {
    /// To ask again `retries` times, in a row, for what `name` stands for.
    pub(super) fn new(name: &'a str, access: &'a Access, retries: u32) -> Self {
        Patience {
            name,
            access,
            retries,
            failures: 0,
            first: (Duration::ZERO, Instant::now()),
        }
    }

    /// Something new has come: patience is as at the beginning.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Returns when it is time to ask again after `passing`, which happened at `place`.
    ///
    /// # Errors
    /// It was asked often enough.
    pub(super) async fn endure(&mut self, passing: Passing, place: &str) -> Result<(), Failed> {
        let Passing { trouble, what, wait } = passing;
        let what = self.access.mask(&what);
        let options = self.access.options();
        if self.failures == 0 {
            // The time before was the reader's: while it wants nothing, silence is no trouble.
            let silent = matches!(trouble, Trouble::Silence).then_some(options.timeout);
            self.first = (silent.unwrap_or_default(), Instant::now());
        }
        let wait = wait.unwrap_or_default().max(options.wait(self.failures));
        let (took, ended) = self.first;
        let next_would_end = took + ended.elapsed() + wait + options.timeout;
        if self.failures >= self.retries || next_would_end > options.patience {
            return Err(Failed {
                cause: trouble.given_up(),
                what: given_up(&what, self.failures),
            });
        }
        let example = format!("{}: {what}{place}; tried again", self.name);
        self.access.count_retry(Dropped::new(trouble.retried(), &example));
        self.failures += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn given_up(what: &str, retries: u32) -> String {
    match retries {
        0 => what.to_owned(),
        1 => format!("{what}; tried again once, then given up"),
        times => format!("{what}; tried again {times} times, then given up"),
    }
}

/// Asks for what `name` stands for until there is an answer, or it was asked often enough.
///
/// # Errors
/// What the other side said last.
pub(super) async fn answer<T, F: Future<Output = Result<T, Failure>>>(
    name: String,
    access: Access,
    ask: impl Fn() -> F,
) -> Result<T, Failed> {
    let mut patience = Patience::new(&name, &access, access.options().retries);
    loop {
        let timeout = access.options().timeout;
        match super::transfer::within(timeout, ask()).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(failed)) => {
                let what = access.mask(&failed.what);
                return Err(Failed { what, ..failed });
            }
            Err(Failure::Passing(passing)) => patience.endure(passing, "").await?,
        }
    }
}
