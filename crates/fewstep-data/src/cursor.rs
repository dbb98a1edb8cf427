//! What a checkpoint keeps of the data: a place in the order of samples, and the order it is a place in. It knows
//! nothing of threads or batches.

use serde::{Deserialize, Serialize};

use crate::config::{Drawing, Part};
use crate::drops::Drops;
use crate::place::{Held, Place, Window};

/// The place after some sample: what a checkpoint keeps of the data. It is small and serialisable, and it means the
/// same whatever the number of threads or the batch size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub(crate) order: OrderId,
    pub(crate) position: Position,
    /// Samples delivered in all epochs, to all ranks together.
    pub(crate) samples: u64,
    /// Turns taken in earlier epochs.
    pub(crate) turns: u64,
    /// Everything dropped up to here.
    pub(crate) drops: Drops,
}

impl Cursor {
    /// The beginning of `order`.
    pub(crate) fn start(order: OrderId) -> Self {
        Cursor {
            order,
            position: Position::beginning_of(0),
            samples: 0,
            turns: 0,
            drops: Drops::default(),
        }
    }

    /// Samples delivered so far, all epochs and all ranks together: the numbers of later ones are not below it.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The epoch that is being read, from 0.
    pub fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// Everything dropped so far.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The cursor from which another number of ranks goes on after these, one of each rank that there was: it has seen
    /// what they have, and its epoch is the last that any of them was in. None of none.
    pub fn of_all(cursors: &[Cursor]) -> Option<Cursor> {
        let furthest = cursors.iter().max_by_key(|cursor| cursor.position.epoch)?;
        let mut all = furthest.clone();
        all.turns = cursors.iter().map(|cursor| cursor.turns).sum();
        all.drops = Drops::default();
        for cursor in cursors {
            all.drops.absorb(cursor.drops.clone());
        }
        Some(all)
    }

    /// The same without what was dropped, which another rank counts.
    pub fn without_drops(mut self) -> Cursor {
        self.drops = Drops::default();
        self
    }

    /// How many ranks share its order.
    pub fn ranks(&self) -> u64 {
        self.order.part.ranks
    }

    /// Follows one event of the order.
    pub(crate) fn follow(&mut self, moved: Moved) {
        if moved == Moved::ToNextEpoch {
            self.turns += self.position.turns;
        }
        self.position.follow(moved);
    }

    /// Shards opened so far in all epochs, or that could not be; one that is read in every epoch counts in each.
    pub(crate) fn opened(&self) -> u64 {
        self.turns + self.position.turns
    }

    /// Whether its numbers are those of any data there could be, so that one can count on from them.
    pub(crate) fn is_sound(&self) -> bool {
        const LARGEST: u64 = 1 << 56;
        let Position {
            epoch, drawn, turns, ..
        } = self.position;
        let window = &self.position.window.0;
        let places = window.iter().map(|held| held.place).chain(self.position.open);
        [self.samples, self.turns, epoch, drawn, turns]
            .into_iter()
            .chain(window.iter().map(|held| held.turn))
            .chain(places.flat_map(|place| [place.ordinal, place.at]))
            .all(|number| number <= LARGEST)
    }
}

/// Everything that shapes an order of samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderId {
    pub(crate) seed: u64,
    pub(crate) window: u64,
    pub(crate) max_window_bytes: u64,
    pub(crate) drawing: Drawing,
    pub(crate) part: Part,
    /// How many shards there are.
    pub(crate) shards: u64,
    /// A digest of what is known of them without opening them.
    pub(crate) digest: String,
}

impl OrderId {
    /// In what `now` differs from this order, as parts of a sentence. None where they are the same.
    pub(crate) fn differences(&self, now: &OrderId) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, then: u64, now: u64| {
            if then != now {
                found.push(format!("{what} was {then} and is {now}"));
            }
        };
        compare("the seed", self.seed, now.seed);
        compare("the shuffle window", self.window, now.window);
        compare(
            "the limit on the window's bytes",
            self.max_window_bytes,
            now.max_window_bytes,
        );
        compare("the number of ranks", self.part.ranks, now.part.ranks);
        if self.part.ranks == now.part.ranks {
            compare("the rank", self.part.rank, now.part.rank);
        }
        compare(
            "the number of shards (or of a folder's pictures, rows and row groups)",
            self.shards,
            now.shards,
        );
        if self.shards == now.shards && self.digest != now.digest {
            found.push("the shards (or a folder's pictures, rows or captions) are other ones".into());
        }
        if self.drawing != now.drawing {
            found.push(format!("shards were {} and are {}", self.drawing, now.drawing));
        }
        found
    }
}

/// A place in an order: which samples are in the shuffle window, and how far their shards have been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Number of the epoch, from 0.
    pub(crate) epoch: u64,
    /// Samples of this epoch that were drawn from the window, whether or not their picture could be used.
    pub(crate) drawn: u64,
    /// Turns of this epoch that were taken: shards that were opened, or could not be.
    pub(crate) turns: u64,
    /// The last find that was read of the shard of the last turn, unless nothing more is in it.
    pub(crate) open: Option<Place>,
    pub(crate) window: Window,
}

impl Position {
    pub(crate) fn beginning_of(epoch: u64) -> Self {
        Position {
            epoch,
            drawn: 0,
            turns: 0,
            open: None,
            window: Window::default(),
        }
    }

    /// Follows one event of the order.
    pub(crate) fn follow(&mut self, moved: Moved) {
        match moved {
            Moved::ToNextEpoch => *self = Position::beginning_of(self.epoch + 1),
            Moved::On {
                kept,
                turns,
                open,
                drew,
            } => {
                self.window.0.extend(kept);
                (self.turns, self.open) = (turns, open);
                if let Some(slot) = drew {
                    self.window.0.swap_remove(slot);
                    self.drawn += 1;
                }
            }
        }
    }
}

/// How an event changed the position: small, so that a position can be followed from another thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Within the epoch.
    On {
        /// Samples that were put into the window.
        kept: Vec<Held>,
        /// As in [`Position`].
        turns: u64,
        /// As in [`Position`].
        open: Option<Place>,
        /// The slot of the window that a sample was drawn from; the last one moved there.
        drew: Option<usize>,
    },
    /// To the beginning of the next one.
    ToNextEpoch,
}
