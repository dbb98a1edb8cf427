//! Several processes that train one student together: who they are (`seat`), how they meet and agree, how gradients are
//! summed (`reducer`), how one is found that is gone (`watch`), how tensors go from one to the others (`parcels`), and what of a
//! run they do together (`together`) and keep by shares (`shares`).
//!
//! Every wait for another rank looks at the watch, so that none outlasts a rank that is gone.

mod error;
mod parcels;
mod reducer;
mod seat;
mod shares;
mod together;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use fewstep_data::Part;
use libtorch_ext::TorchError;
use libtorch_ext::group::{Group, Member, Network, Patience, Waited, Work};
use libtorch_ext::store::{Store, StoreError};
use tch::Device;

use crate::error::TrainError;

pub use error::RanksError;
pub(crate) use parcels::bytes_at_most as parcels_bytes;
pub(crate) use reducer::Reducer;
pub use seat::{Seat, Server};
pub(crate) use together::{Entered, Numbers, Team};
pub use watch::Sentinel;
use watch::{Watch, key, others};

/// How long a wait goes on before the watch is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Longer than any checkpoint takes to write: whether a rank hangs, its signs of life say.
const OPERATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// This machine, for ranks that are all on it.
const LOOPBACK: &str = "127.0.0.1";

/// This process among the ranks of a run, once they have met.
#[derive(Debug)]
pub struct Ranks {
    seat: Seat,
    group: Option<Group>,
    _watch: Watch,
    sentinel: Sentinel,
    /// For the thread of the run.
    store: Store,
    /// How often something was handed in.
    handed_in: u64,
    timeout: Duration,
    /// Whether the run has come to its end.
    left: bool,
    /// Rank 0's, dropped last.
    server: Option<Arc<Store>>,
}

impl Ranks {
    /// Meets the other ranks. A rank that gives no sign of life for `timeout`, now or later, is taken for lost.
    ///
    /// # Errors
    /// A busy port, a rendezvous that nobody serves, or ranks that do not come.
    pub fn meet(seat: Seat, timeout: Duration) -> Result<Self, RanksError> {
        let no_rendezvous = |source| RanksError::NoRendezvous {
            rank: seat.rank,
            source,
        };
        let serves = seat.rank == 0 && seat.server == Server::Rank0;
        let server = match serves {
            true => Some(Store::serve(seat.port, timeout).map_err(no_rendezvous)?),
            false => None,
        };
        let host = if serves { LOOPBACK } else { &seat.host };
        let store = Store::connect(host, seat.port, timeout).map_err(no_rendezvous)?;
        let member = member(&seat);
        store
            .meet(&key(&seat.attempt, "here"), member, timeout)
            .map_err(no_rendezvous)?;
        let own = store.connect_again().map_err(no_rendezvous)?;
        let watch = Watch::begin(own, seat.attempt.clone(), member, timeout)
            .map_err(|error| TorchError::new(&format!("there is no thread to watch ranks on: {error}")))?;
        Ok(Ranks {
            seat,
            group: None,
            sentinel: watch.sentinel(),
            _watch: watch,
            store,
            handed_in: 0,
            timeout,
            left: false,
            server: server.map(Arc::new),
        })
    }

    /// The part of the data that is this rank's.
    pub fn part(&self) -> Part {
        self.seat.part()
    }

    /// Who this is.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// What knows, on any thread, whether another rank is gone.
    pub fn sentinel(&self) -> Sentinel {
        self.sentinel.clone()
    }

    /// What tells the others why this rank ends, also when all else of it is gone.
    ///
    /// # Errors
    /// The rendezvous is gone.
    pub(crate) fn herald(&self) -> Result<Herald, RanksError> {
        let store = self.store.connect_again();
        Ok(Herald {
            store: store.map_err(|error| self.sentinel.culprit(&error.to_string()))?,
            seat: self.seat.clone(),
            server: self.server.clone(),
        })
    }

    /// Refuses ranks that are not told the same: each compares its `words` with rank 0's.
    ///
    /// # Errors
    /// This rank differs, with what and both values; or another one is gone, perhaps since it differs.
    pub(crate) fn agree(&self, words: &[(String, String)]) -> Result<(), RanksError> {
        let own = serde_json::to_vec(words).unwrap_or_default();
        if self.seat.rank == 0 {
            self.set("words", &own)?;
        }
        let theirs: Vec<(String, String)> = serde_json::from_slice(&self.get("words")?).unwrap_or_default();
        let word = |words: &[(String, String)], name: &str| {
            let found = words.iter().find(|(known, _)| known == name);
            found.map_or_else(|| "not set".to_owned(), |(_, word)| word.clone())
        };
        let mut differences = Vec::new();
        for (name, _) in theirs.iter().chain(words.iter().filter(|(name, _)| {
            // Only here.
            !theirs.iter().any(|(known, _)| known == name)
        })) {
            let (there, here) = (word(&theirs, name), word(words, name));
            if there != here {
                differences.push(format!(
                    "{name} is {there} on rank 0 and {here} on rank {}",
                    self.seat.rank
                ));
            }
        }
        if !differences.is_empty() {
            return Err(RanksError::Differ {
                rank: self.seat.rank,
                differences,
            });
        }
        // None goes on before all know that they are the same.
        self.set(&format!("agreed/{}", self.seat.rank), &[])?;
        for rank in others(member(&self.seat)) {
            self.get(&format!("agreed/{rank}"))?;
        }
        Ok(())
    }

    /// Connects the ranks' devices.
    ///
    /// # Errors
    /// They cannot reach one another.
    pub(crate) fn connect(&mut self, device: Device) -> Result<(), RanksError> {
        let network = match (device, std::env::var("GLOO_SOCKET_IFNAME")) {
            (Device::Cuda(_), _) => Network::Nccl,
            (_, Ok(interface)) if !interface.is_empty() => Network::Interface(interface),
            _ if [LOOPBACK, "localhost"].contains(&&*self.seat.host) => Network::Host(LOOPBACK.to_owned()),
            _ => Network::Default,
        };
        let name = key(&self.seat.attempt, "group");
        let patience = Patience {
            joining: self.timeout,
            operation: OPERATION,
        };
        let group = Group::join(&self.store, &name, member(&self.seat), &network, patience);
        self.group = Some(group.map_err(|error| self.sentinel.verdict().unwrap_or(error.into()))?);
        Ok(())
    }

    /// The connection between the devices.
    pub(crate) fn group(&mut self) -> Result<&mut Group, RanksError> {
        self.group
            .as_mut()
            .ok_or_else(|| TorchError::new("the ranks' devices are not connected").into())
    }

    /// Waits for an operation between all ranks.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn wait(&self, work: &Work) -> Result<(), RanksError> {
        loop {
            match work.wait(LOOK) {
                Ok(Waited::Done) => return Ok(()),
                Ok(Waited::NotYet) => self.check()?,
                Err(error) => return Err(self.sentinel.culprit(error.text())),
            }
        }
    }

    /// Hands something in, for rank 0 to collect. Rank 0 gets what all have, in the order of their ranks, once all have
    /// come here as often as it has; others go on at once and get nothing.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn collect(&mut self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
        self.handed_in += 1;
        let name = |rank: u32| format!("handed-in/{}/{rank}", self.handed_in);
        if self.seat.rank != 0 {
            self.set(&name(self.seat.rank), &own)?;
            return Ok(Vec::new());
        }
        let mut all = vec![own];
        for rank in others(member(&self.seat)) {
            all.push(self.get(&name(rank))?);
            let _ = self.store.delete(&key(&self.seat.attempt, &name(rank)));
        }
        Ok(all)
    }

    /// Leaves the run at its end. Rank 0 stays until all others have left, for they need its rendezvous.
    ///
    /// # Errors
    /// A rank that is gone before its end.
    pub(crate) fn leave(mut self) -> Result<(), RanksError> {
        let (prefix, own) = (&*self.seat.attempt, self.seat.rank);
        let left = self.store.set(&watch::left(prefix, own), b"");
        left.map_err(|error| self.sentinel.culprit(&error.to_string()))?;
        if own == 0 {
            for rank in others(member(&self.seat)) {
                self.get(&format!("left/{rank}"))?;
            }
        }
        self.left = true;
        Ok(())
    }

    fn set(&self, name: &str, value: &[u8]) -> Result<(), RanksError> {
        let set = self.store.set(&key(&self.seat.attempt, name), value);
        set.map_err(|error| self.sentinel.culprit(&error.to_string()))
    }

    /// The value under a key that another rank sets, however long it takes it.
    fn get(&self, name: &str) -> Result<Vec<u8>, RanksError> {
        let name = key(&self.seat.attempt, name);
        loop {
            match self.store.get(&name, LOOK) {
                Ok(value) => return Ok(value),
                Err(StoreError::TimedOut { .. }) => self.check()?,
                Err(error) => return Err(self.sentinel.culprit(&error.to_string())),
            }
        }
    }

    /// # Errors
    /// A rank that is gone.
    fn check(&self) -> Result<(), RanksError> {
        self.sentinel.verdict().map_or(Ok(()), Err)
    }
}

/// Tells the others why a rank ends.
#[derive(Debug)]
pub(crate) struct Herald {
    store: Store,
    seat: Seat,
    server: Option<Arc<Store>>,
}

impl Herald {
    /// Tells them, and gives them a moment to hear it where this rank serves the rendezvous. That another rank is gone
    /// they find out themselves.
    pub(crate) fn tell(&self, error: &TrainError) {
        use RanksError::{Ended, Gone, Silent};
        if matches!(
            error,
            TrainError::Ranks(Ended { .. } | Gone { .. } | Silent { .. })
        ) {
            return;
        }
        let (prefix, member) = (&*self.seat.attempt, member(&self.seat));
        // Whoever cannot be told finds out.
        if watch::announce(&self.store, prefix, member, error.to_string()).is_ok() && self.server.is_some() {
            let _ = watch::wait_until_heard(&self.store, prefix, member);
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        // A group waits for its operations when it is dropped. Those that wait for a rank which is gone, or hangs, may
        // never end: they go with the process.
        if !self.left {
            std::mem::forget(self.group.take());
        }
    }
}

fn member(seat: &Seat) -> Member {
    Member {
        rank: seat.rank,
        size: seat.ranks,
    }
}
