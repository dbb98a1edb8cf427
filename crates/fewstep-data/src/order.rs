//! The order of samples: epochs of shards, and a window over their samples from which the next one is drawn.
//!
//! It is a function of its options and of the list of shards alone. Each epoch is read to its end before the next
//! begins, so that every sample is seen once an epoch. Pictures stay encoded here, and no thread is known.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use fewstep_draw::{Purpose, Stream};

use crate::config::{DataConfig, Drawing, Limits, Part};
use crate::cursor::{Moved, OrderId, Position};
use crate::drops::Dropped;
use crate::fnv::Fnv;
use crate::place::{Held, Place};
use crate::recall::recall;
use crate::sample::{Found, Sample};
use crate::shard::{Finds, Shard};
use crate::turns::{Turn, Turns};

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
    EpochEnd {
        /// Shards of which nothing was seen, neither in this epoch nor in those before it since this number was 0. It
        /// is 0 after each epoch in which the order reads every shard.
        untried: usize,
    },
}

/// What shapes an order, besides the shards.
#[derive(Debug, Clone)]
pub struct OrderOptions {
    /// Seed of its draws.
    pub seed: u64,
    /// Samples among which the next one is drawn.
    pub window: usize,
    /// How the shards of an epoch are chosen.
    pub drawing: Drawing,
    /// The part of each epoch that it yields.
    pub part: Part,
    /// Bounds on what is read into memory.
    pub limits: Limits,
}

impl From<&DataConfig> for OrderOptions {
    fn from(config: &DataConfig) -> Self {
        OrderOptions {
            seed: config.seed,
            window: config.shuffle_window,
            drawing: config.drawing,
            part: config.part,
            limits: config.limits,
        }
    }
}

/// The endless order, read as it goes.
pub struct Order {
    shards: Vec<Arc<dyn Shard>>,
    options: OrderOptions,
    turns: Turns,
    position: Position,
    /// The samples of the window, slot by slot as in `position`.
    window: Vec<Sample>,
    window_bytes: u64,
    /// The shard of the last turn.
    open: Option<Open>,
    /// By shard: whether anything of it was seen since every one had been.
    tried: Vec<bool>,
}

/// A shard that is being read.
struct Open {
    turn: Turn,
    finds: Finds,
}

impl Order {
    /// The beginning of the first epoch.
    pub fn new(shards: Vec<Arc<dyn Shard>>, options: OrderOptions) -> Self {
        Order {
            tried: vec![false; shards.len()],
            turns: Turns::new(0, shards.len(), options.seed, options.drawing, options.part),
            shards,
            options,
            position: Position::beginning_of(0),
            window: Vec::new(),
            window_bytes: 0,
            open: None,
        }
    }

    /// Number of shards in the list.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The most samples of an epoch, where that is known without reading it.
    pub fn samples(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.samples()).sum()
    }

    /// What this order is, so that a cursor knows its own.
    pub(crate) fn id(&self) -> OrderId {
        let mut digest = Fnv::new();
        for shard in &self.shards {
            shard.fingerprint(&mut digest);
            digest.write(&[0]);
        }
        OrderId {
            seed: self.options.seed,
            window: self.window_size(),
            max_window_bytes: self.options.limits.max_window_bytes,
            drawing: self.options.drawing,
            part: self.options.part,
            shards: self.shards.len() as u64,
            digest: format!("{:016x}", digest.finish()),
        }
    }

    /// Goes to `position`, by reading the samples of its window again. What can no longer be read is taken out of the
    /// position, and returned.
    pub(crate) fn go_to(&mut self, position: &mut Position) -> Vec<Dropped> {
        self.begin_epoch(position.epoch);
        let (shards, turns) = (&self.shards, &self.turns);
        let shard = |turn| turns.get(turn).map(|turn| &*shards[turn.shard]);
        let recalled = recall(position, shard, &self.options.limits);
        self.window_bytes = recalled.window.iter().map(bytes).sum();
        self.window = recalled.window;
        self.position = position.clone();
        let last = self.position.turns.checked_sub(1);
        self.open = last
            .and_then(|turn| self.turns.get(turn))
            .zip(recalled.open)
            .map(|(turn, finds)| Open { turn, finds });
        recalled.gone
    }

    /// What comes next. After the end of an epoch follows the beginning of another.
    pub fn next_event(&mut self) -> Event {
        self.advance().0
    }

    /// What comes next, and how the position changes by it.
    pub(crate) fn advance(&mut self) -> (Event, Moved) {
        let wanted = self.window_size().min(FIRST_WINDOW + self.position.drawn);
        let mut kept = Vec::new();
        let mut dropped = None;
        while (self.window.len() as u64) < wanted && self.window_bytes < self.options.limits.max_window_bytes
        {
            match self.read() {
                Some((held, Found::Sample(sample))) => {
                    self.window_bytes += bytes(&sample);
                    self.window.push(sample);
                    kept.push(held);
                }
                Some((_, Found::Dropped(found))) => {
                    dropped = Some(found);
                    break;
                }
                None => break,
            }
        }
        if let Some(dropped) = dropped {
            return (Event::Dropped(dropped), self.move_on(kept, None));
        }
        if self.window.is_empty() {
            return self.end_epoch();
        }
        let slot = self.draw();
        let sample = self.window.swap_remove(slot);
        self.window_bytes -= bytes(&sample);
        (Event::Sample(sample), self.move_on(kept, Some(slot)))
    }

    /// A slot of the window. A draw takes two numbers of 32 bits, and is found again by its own number.
    fn draw(&self) -> usize {
        let Position { epoch, drawn, .. } = self.position;
        let mut draws = Stream::after(self.options.seed, Purpose::SampleOrder, epoch, 2 * drawn);
        draws.below(self.window.len() as u64) as usize
    }

    fn move_on(&mut self, kept: Vec<Held>, drew: Option<usize>) -> Moved {
        let moved = Moved::On {
            kept,
            turns: self.position.turns,
            open: self.position.open,
            drew,
        };
        self.position.follow(moved.clone());
        moved
    }

    fn end_epoch(&mut self) -> (Event, Moved) {
        let untried = self.tried.iter().filter(|tried| !**tried).count();
        if untried == 0 {
            self.tried.fill(false);
        }
        self.begin_epoch(self.position.epoch + 1);
        (Event::EpochEnd { untried }, Moved::ToNextEpoch)
    }

    fn begin_epoch(&mut self, epoch: u64) {
        let Order { shards, options, .. } = self;
        self.turns = Turns::new(epoch, shards.len(), options.seed, options.drawing, options.part);
        self.position = Position::beginning_of(epoch);
        self.open = None;
        self.window.clear();
        self.window_bytes = 0;
    }

    /// The next find of this part of the epoch, in the order in which they are read.
    fn read(&mut self) -> Option<(Held, Found)> {
        loop {
            let (turn, place, found) = match self.read_open() {
                Some(find) => find,
                None => match self.open_next()? {
                    Ok(()) => continue,
                    Err(find) => find,
                },
            };
            if turn.share.has(place.ordinal) {
                self.tried[turn.shard] = true;
                let turn = self.position.turns - 1;
                return Some((Held { turn, place }, found));
            }
        }
    }

    /// The next find of the open shard.
    fn read_open(&mut self) -> Option<(Turn, Place, Found)> {
        let next = self
            .open
            .as_mut()
            .and_then(|open| open.finds.next().map(|(place, found)| (open.turn, place, found)));
        self.position.open = next.as_ref().map(|(_, place, _)| *place);
        if next.is_none() {
            self.open = None;
        }
        next
    }

    /// Opens the shard of the next turn. One that cannot be opened is a find itself.
    fn open_next(&mut self) -> Option<Result<(), (Turn, Place, Found)>> {
        let turn = self.turns.get(self.position.turns)?;
        self.position.turns += 1;
        let shard = &self.shards[turn.shard];
        Some(match shard.open(Place::START, &self.options.limits) {
            Ok(finds) => {
                self.open = Some(Open { turn, finds });
                Ok(())
            }
            Err(error) => {
                let dropped = Dropped::shard(shard.name(), &error);
                Err((turn, Place::START, Found::Dropped(dropped)))
            }
        })
    }

    fn window_size(&self) -> u64 {
        self.options.window.max(1) as u64
    }
}

/// What a sample takes up in the window.
fn bytes(sample: &Sample) -> u64 {
    sample.image.len() as u64
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("shards", &self.shards.len())
            .field("epoch", &self.position.epoch)
            .field("drawn", &self.position.drawn)
            .finish_non_exhaustive()
    }
}
