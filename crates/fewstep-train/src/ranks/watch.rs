//! Signs of life: each rank counts up a number in the store that all can see, and looks at everybody else's. So a rank
//! that was killed, that hangs as a whole or whose machine is gone is found whatever the others wait for.
//!
//! It has a thread and a connection of its own, and judges; what is done about it is for others.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtorch_ext::group::Member;
use libtorch_ext::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::error::RanksError;

/// How often a sign of life is given.
const BEAT: Duration = Duration::from_secs(1);
/// After so much silence a rank whose connection broke is taken for the one that is gone.
const SUSPICIOUS: Duration = Duration::from_secs(3);

/// Where ranks say that they end with an error.
const FAULT: &str = "fault";

/// A rank's own words about its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    rank: u32,
    reason: String,
}

/// The watch of one rank over all others.
#[derive(Debug)]
pub(super) struct Watch {
    sentinel: Sentinel,
    ending: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Says from any thread whether another rank is gone.
#[derive(Debug, Clone)]
pub struct Sentinel {
    seen: Arc<Mutex<Seen>>,
    timeout: Duration,
}

/// What the watch knows.
#[derive(Debug)]
struct Seen {
    /// When the store last answered.
    answered: Instant,
    /// When each of the others was last known to live.
    alive: BTreeMap<u32, Instant>,
    /// What ends the run.
    verdict: Option<RanksError>,
}

impl Watch {
    /// Begins to watch, over its own connection to the store. `prefix` is what the ranks' keys begin with.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn begin(
        store: Store,
        prefix: String,
        member: Member,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let now = Instant::now();
        let seen = Arc::new(Mutex::new(Seen {
            answered: now,
            alive: others(member).map(|rank| (rank, now)).collect(),
            verdict: None,
        }));
        let (ending, ended) = mpsc::channel();
        let rounds = Rounds {
            store,
            prefix,
            member,
            timeout,
            beats: BTreeMap::new(),
            seen: seen.clone(),
        };
        let work = move || {
            let mut rounds = rounds;
            while rounds.go() {
                match ended.recv_timeout(BEAT.min(timeout / 4)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        };
        let thread = thread::Builder::new().name("ranks".to_owned()).spawn(work)?;
        Ok(Watch {
            sentinel: Sentinel { seen, timeout },
            ending: Some(ending),
            thread: Some(thread),
        })
    }

    /// What the watch knows, for other threads.
    pub(super) fn sentinel(&self) -> Sentinel {
        self.sentinel.clone()
    }
}

impl Sentinel {
    /// What ends the run, if anything does: another rank that is gone.
    pub fn verdict(&self) -> Option<RanksError> {
        let mut seen = lock(&self.seen);
        let silence = seen.answered.elapsed();
        // A store that is served by a process which hangs answers nobody.
        if seen.verdict.is_none() && silence > self.timeout + 2 * BEAT {
            seen.verdict = Some(RanksError::Gone {
                who: "the process that serves the rendezvous".to_owned(),
                said: format!("it did not answer for {} s", silence.as_secs()),
            });
        }
        seen.verdict.clone()
    }

    /// Who is behind a connection that broke, saying `said`: whoever tells it, or has been silent since. It waits for
    /// that a little.
    pub(super) fn culprit(&self, said: &str) -> RanksError {
        let begun = Instant::now();
        while begun.elapsed() < 2 * SUSPICIOUS {
            if let Some(verdict) = self.verdict() {
                return verdict;
            }
            let silent = lock(&self.seen)
                .alive
                .iter()
                .filter(|(_, alive)| alive.elapsed() > SUSPICIOUS)
                .max_by_key(|(_, alive)| alive.elapsed())
                .map(|(rank, _)| *rank);
            if let Some(rank) = silent {
                return RanksError::Gone {
                    who: format!("rank {rank}"),
                    said: said.to_owned(),
                };
            }
            thread::sleep(BEAT / 10);
        }
        RanksError::Gone {
            who: "another rank".to_owned(),
            said: said.to_owned(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.ending.take());
        // A thread that waits for a store which does not answer is left to itself.
        let answers = lock(&self.sentinel.seen).answered.elapsed() < 2 * BEAT;
        if let Some(thread) = self.thread.take().filter(|_| answers) {
            let _ = thread.join();
        }
    }
}

/// What the thread does.
struct Rounds {
    store: Store,
    prefix: String,
    member: Member,
    timeout: Duration,
    beats: BTreeMap<u32, i64>,
    seen: Arc<Mutex<Seen>>,
}

impl Rounds {
    /// Looks once at everybody; whether to go on.
    fn go(&mut self) -> bool {
        let verdict = match self.look() {
            Ok(None) => {
                lock(&self.seen).answered = Instant::now();
                return true;
            }
            Ok(Some(verdict)) => verdict,
            Err(error) => RanksError::Gone {
                who: "rank 0, or whoever else serves the rendezvous,".to_owned(),
                said: error.to_string(),
            },
        };
        lock(&self.seen).verdict = Some(verdict);
        false
    }

    fn look(&mut self) -> Result<Option<RanksError>, StoreError> {
        let Member { rank: own, .. } = self.member;
        self.store.add(&beat(&self.prefix, own), 1)?;
        let fault = key(&self.prefix, FAULT);
        if self.store.has(&fault)? {
            let value = self.store.get(&fault, self.timeout)?;
            if let Ok(Fault { rank, reason }) = serde_json::from_slice(&value)
                && rank != own
            {
                self.store.set(&key(&self.prefix, &format!("heard/{own}")), b"")?;
                return Ok(Some(RanksError::Ended { rank, reason }));
            }
        }
        for rank in others(self.member) {
            let beats = self.store.add(&beat(&self.prefix, rank), 0)?;
            if self.beats.insert(rank, beats) != Some(beats) {
                lock(&self.seen).alive.insert(rank, Instant::now());
                continue;
            }
            let silence = lock(&self.seen)
                .alive
                .get(&rank)
                .map_or(Duration::ZERO, Instant::elapsed);
            if silence > BEAT && self.store.has(&left(&self.prefix, rank))? {
                lock(&self.seen).alive.insert(rank, Instant::now());
            } else if silence > self.timeout {
                return Ok(Some(RanksError::Silent { rank, silence }));
            }
        }
        Ok(None)
    }
}

/// Says on behalf of `member` why it ends. Whoever said so first is believed.
pub(super) fn announce(
    store: &Store,
    prefix: &str,
    member: Member,
    reason: String,
) -> Result<(), StoreError> {
    let fault = key(prefix, FAULT);
    if store.has(&fault)? {
        return Ok(());
    }
    let value = Fault {
        rank: member.rank,
        reason,
    };
    store.set(&fault, &serde_json::to_vec(&value).unwrap_or_default())
}

/// Whether all others have heard of it, have left, or do not listen any more after a while.
pub(super) fn wait_until_heard(store: &Store, prefix: &str, member: Member) -> Result<(), StoreError> {
    let end = Instant::now() + 3 * BEAT;
    for rank in others(member) {
        let left_time = end.saturating_duration_since(Instant::now());
        match store.get(&key(prefix, &format!("heard/{rank}")), left_time) {
            Ok(_) | Err(StoreError::TimedOut { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The key under which a rank says that it has ended well.
pub(super) fn left(prefix: &str, rank: u32) -> String {
    key(prefix, &format!("left/{rank}"))
}

pub(super) fn key(prefix: &str, name: &str) -> String {
    format!("fewstep/{prefix}/{name}")
}

pub(super) fn others(member: Member) -> impl Iterator<Item = u32> {
    (0..member.size).filter(move |rank| *rank != member.rank)
}

fn beat(prefix: &str, rank: u32) -> String {
    key(prefix, &format!("beat/{rank}"))
}

/// A thread that panicked while it held the lock has left numbers that are still true.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
