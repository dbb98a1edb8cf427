//! Which shard is read when, and by which rank: a function of seed, epoch, number of shards and ranks. It opens none.
//!
//! The list of an epoch is dealt out in rounds, one shard to each rank. What is left for no whole round (all of it, where
//! there are fewer shards than ranks) is read by every rank, and its finds are dealt out instead. So the ranks' shares of
//! an epoch differ by the sizes of their shards and by nothing else, and every sample belongs to exactly one of them.

use fewstep_draw::{Purpose, Stream};

use crate::config::{Drawing, Part};

/// The turns that one rank takes in one epoch.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    /// The shards of the epoch, for all ranks.
    list: Vec<usize>,
    epoch: u64,
    part: Part,
}

/// One shard that a rank reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Its place in the list of shards that the user named.
    pub(crate) shard: usize,
    pub(crate) share: Share,
}

/// Which of a shard's finds are the rank's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of them.
    Whole,
    /// Every `of`-th, beginning with number `first`.
    Every { of: u64, first: u64 },
}

impl Share {
    /// Whether the find with this number belongs to it.
    pub(crate) fn has(self, ordinal: u64) -> bool {
        match self {
            Share::Whole => true,
            Share::Every { of, first } => ordinal % of == first,
        }
    }
}

impl Turns {
    /// Those of `epoch`, in an order with this many shards.
    pub(crate) fn new(epoch: u64, shards: usize, seed: u64, drawing: Drawing, part: Part) -> Self {
        let list = match drawing {
            Drawing::EachOnce => {
                let mut list: Vec<usize> = (0..shards).collect();
                Stream::new(seed, Purpose::ShardOrder, epoch).shuffle(&mut list);
                list
            }
            Drawing::WithReplacement => {
                let mut draws = Stream::new(seed, Purpose::ShardDraw, epoch);
                (0..shards).map(|_| draws.below(shards as u64) as usize).collect()
            }
        };
        Turns { list, epoch, part }
    }

    /// The rank's turn with this number, if it has as many in this epoch.
    pub(crate) fn get(&self, turn: u64) -> Option<Turn> {
        let Part { rank, ranks } = self.part;
        let rounds = self.list.len() as u64 / ranks;
        let place = if turn < rounds {
            turn * ranks + rank
        } else {
            (rounds * ranks).checked_add(turn - rounds)?
        };
        let shard = *self.list.get(usize::try_from(place).ok()?)?;
        let share = if turn < rounds {
            Share::Whole
        } else {
            // Another rank is the first at each place and in each epoch: shards of a single sample are dealt out as
            // well, and a rank that has none in this epoch has one in another.
            let before = (place % ranks + self.epoch % ranks) % ranks;
            Share::Every {
                of: ranks,
                first: (rank + ranks - before) % ranks,
            }
        };
        Some(Turn { shard, share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(epoch: u64, shards: usize, drawing: Drawing, part: Part) -> Vec<Turn> {
        let turns = Turns::new(epoch, shards, 7, drawing, part);
        (0..).map_while(|turn| turns.get(turn)).collect()
    }

    #[test]
    fn every_find_belongs_to_one_rank() {
        for (shards, ranks) in [(1, 1), (5, 1), (1, 3), (2, 3), (6, 3), (7, 3), (8, 3), (3, 8)] {
            for epoch in 0..4 {
                let mut owners = vec![[0; 10]; shards];
                for rank in 0..ranks {
                    for turn in turns(epoch, shards, Drawing::EachOnce, Part { rank, ranks }) {
                        for (ordinal, owners) in owners[turn.shard].iter_mut().enumerate() {
                            *owners += u32::from(turn.share.has(ordinal as u64));
                        }
                    }
                }
                assert_eq!(owners, vec![[1; 10]; shards], "{shards} shards, {ranks} ranks");
            }
        }
    }

    #[test]
    fn a_single_find_goes_round() {
        let owner = |epoch| {
            (0..3).position(|rank| {
                turns(epoch, 1, Drawing::EachOnce, Part { rank, ranks: 3 })[0]
                    .share
                    .has(0)
            })
        };
        let mut owners: Vec<_> = (0..3).map(owner).collect();
        owners.sort_unstable();
        assert_eq!(owners, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn with_replacement_every_shard_is_as_likely_each_time() {
        let mut counts = [0; 5];
        for epoch in 0..2000 {
            let drawn = turns(epoch, 5, Drawing::WithReplacement, Part::WHOLE);
            assert_eq!(drawn.len(), 5);
            drawn.iter().for_each(|turn| counts[turn.shard] += 1);
        }
        assert!(
            counts.iter().all(|count| (1800..2200).contains(count)),
            "{counts:?}"
        );
        let repeats = |epoch| {
            let drawn = turns(epoch, 5, Drawing::WithReplacement, Part::WHOLE);
            (0..5).any(|shard| drawn.iter().filter(|turn| turn.shard == shard).count() > 1)
        };
        assert!((0..10).filter(|epoch| repeats(*epoch)).count() > 5);
    }

    #[test]
    fn a_turn_that_is_not_there_is_none() {
        let turns = Turns::new(0, 4, 7, Drawing::EachOnce, Part { rank: 1, ranks: 3 });
        assert!(turns.get(1).is_some());
        assert_eq!(turns.get(2), None);
        assert_eq!(turns.get(u64::MAX), None);
    }
}
