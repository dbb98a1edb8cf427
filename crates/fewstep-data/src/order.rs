//! The order of samples: epochs of shuffled shards, and a window over their samples from which the next one is drawn.
//!
//! It is a function of the seed, the window's size and the list of shards alone. Each epoch is shuffled anew and read
//! to its end before the next begins, so that every sample is seen once an epoch. Pictures stay encoded here, and no
//! thread is known.

use std::fmt;
use std::sync::Arc;

use fewstep_draw::{Purpose, Stream};

use crate::config::Limits;
use crate::cursor::Cursor;
use crate::drops::{Cause, Dropped};
use crate::error::DataError;
use crate::sample::{Found, Sample};
use crate::shard::{Finds, Shard};

/// The window starts this small and grows by one sample a draw: the first batch need not wait for all of it.
const FIRST_WINDOW: u64 = 100;

/// What comes next.
#[derive(Debug)]
pub enum Event {
    /// A sample.
    Sample(Sample),
    /// Something in a shard that is no sample, or a shard that cannot be read.
    Dropped(Dropped),
    /// The last sample of the epoch has been seen.
    EpochEnd,
}

/// The endless order, read as it goes.
pub struct Order {
    shards: Vec<Arc<dyn Shard>>,
    seed: u64,
    window_size: u64,
    limits: Limits,
    epoch: u64,
    drawn: u64,
    /// Shards of this epoch that are still to be opened, the next one last.
    unread: Vec<usize>,
    open: Option<Finds>,
    window: Vec<Sample>,
    window_bytes: u64,
    draws: Stream,
}

impl Order {
    /// The beginning of the first epoch.
    pub fn new(shards: Vec<Arc<dyn Shard>>, seed: u64, window_size: usize, limits: Limits) -> Self {
        let mut order = Order {
            shards,
            seed,
            window_size: window_size.max(1) as u64,
            limits,
            epoch: 0,
            drawn: 0,
            unread: Vec::new(),
            open: None,
            window: Vec::new(),
            window_bytes: 0,
            draws: Stream::new(seed, Purpose::SampleOrder, 0),
        };
        order.begin_epoch(0);
        order
    }

    /// Number of shards in an epoch.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// A digest of everything that shapes the order.
    pub fn digest(&self) -> String {
        let mut digest = Fnv::new();
        digest.add(&self.seed.to_le_bytes());
        digest.add(&self.window_size.to_le_bytes());
        digest.add(&self.limits.max_window_bytes.to_le_bytes());
        for shard in &self.shards {
            digest.add(shard.name().as_bytes());
            digest.add(&[0]);
        }
        format!("{:016x}", digest.0)
    }

    /// Goes to the place that `cursor` names, by reading the epoch up to there without decoding a picture.
    ///
    /// # Errors
    /// The cursor belongs to another order, or the shards no longer reach that far.
    pub fn go_to(&mut self, cursor: &Cursor) -> Result<(), DataError> {
        if cursor.order != self.digest() {
            return Err(DataError::OtherOrder);
        }
        self.begin_epoch(cursor.epoch);
        let mut found = 0;
        while found < cursor.drawn {
            match self.next_event() {
                Event::Sample(_) => found += 1,
                Event::Dropped(_) => {}
                Event::EpochEnd => {
                    return Err(DataError::PlaceIsGone {
                        epoch: cursor.epoch,
                        wanted: cursor.drawn,
                        found,
                    });
                }
            }
        }
        Ok(())
    }

    /// What comes next. After the end of an epoch follows the beginning of another.
    pub fn next_event(&mut self) -> Event {
        let wanted = self.window_size.min(FIRST_WINDOW + self.drawn);
        while (self.window.len() as u64) < wanted && self.window_bytes < self.limits.max_window_bytes {
            match self.read() {
                Some(Found::Sample(sample)) => {
                    self.window_bytes += sample.image.len() as u64;
                    self.window.push(sample);
                }
                Some(Found::Dropped(dropped)) => return Event::Dropped(dropped),
                None => break,
            }
        }
        if self.window.is_empty() {
            self.begin_epoch(self.epoch + 1);
            return Event::EpochEnd;
        }
        self.drawn += 1;
        let place = self.draws.below(self.window.len() as u64) as usize;
        let sample = self.window.swap_remove(place);
        self.window_bytes -= sample.image.len() as u64;
        Event::Sample(sample)
    }

    fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.drawn = 0;
        self.unread = (0..self.shards.len()).collect();
        Stream::new(self.seed, Purpose::ShardOrder, epoch).shuffle(&mut self.unread);
        self.unread.reverse();
        self.open = None;
        self.window.clear();
        self.window_bytes = 0;
        self.draws = Stream::new(self.seed, Purpose::SampleOrder, epoch);
    }

    /// The next find in the shards of this epoch, in the order in which they are read.
    fn read(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.open.as_mut().and_then(Iterator::next) {
                return Some(found);
            }
            self.open = None;
            let shard = &self.shards[self.unread.pop()?];
            match shard.open(&self.limits) {
                Ok(finds) => self.open = Some(finds),
                Err(error) => {
                    let example = format!("{}: {error}", shard.name());
                    return Some(Found::Dropped(Dropped::new(Cause::UnreadableShard, &example)));
                }
            }
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("shards", &self.shards.len())
            .field("epoch", &self.epoch)
            .field("drawn", &self.drawn)
            .finish_non_exhaustive()
    }
}

/// The hash of Fowler, Noll and Vo (FNV-1a, 64 bits): it must be the same in every build.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
