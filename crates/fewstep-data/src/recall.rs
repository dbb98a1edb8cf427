//! Reading the samples of a position again, and nothing else where the shards allow it. It draws nothing.

use std::collections::BTreeMap;

use crate::config::Limits;
use crate::cursor::Position;
use crate::drops::{Cause, Dropped};
use crate::place::{Held, Place};
use crate::sample::{Found, Sample};
use crate::shard::{Finds, Shard};

/// What was read.
pub(crate) struct Recalled {
    /// The samples of the window, slot by slot as in the position.
    pub(crate) window: Vec<Sample>,
    /// What follows in the shard of the last turn.
    pub(crate) open: Option<Finds>,
    /// What can no longer be read: a sample each, or the rest of a shard.
    pub(crate) gone: Vec<Dropped>,
}

/// Reads what `position` holds; `shard` is the one of a turn. What is gone is taken out of the position.
pub(crate) fn recall<'a>(
    position: &mut Position,
    shard: impl Fn(u64) -> Option<&'a dyn Shard>,
    limits: &Limits,
) -> Recalled {
    let last_turn = position.turns.checked_sub(1);
    let mut places: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
    for held in &position.window.0 {
        places.entry(held.turn).or_default().push(held.place);
    }
    if let (Some(turn), Some(place)) = (last_turn, position.open) {
        // The last find that was read: none of the window's in this shard lies behind it.
        places.entry(turn).or_default().push(place);
    }

    let (mut open, mut found, mut gone) = (None, BTreeMap::new(), Vec::new());
    for (turn, mut places) in places {
        places.sort_unstable();
        places.dedup();
        let Some(shard) = shard(turn) else {
            continue;
        };
        let rest = finds(shard, &places, limits, |place, find| {
            found.insert((turn, place), find);
        });
        if Some(turn) == last_turn && position.open.is_some() {
            open = rest;
        }
    }
    let mut lose = |held: &Held, what: &str, why: &str| {
        let name = shard(held.turn).map_or("a shard that is not in the list", Shard::name);
        let example = format!("{name}, {what} number {}: {why}", held.place.ordinal);
        gone.push(Dropped::new(Cause::Gone, &example));
    };

    let mut window = Vec::with_capacity(position.window.0.len());
    position.window.0.retain(|held| {
        let why = match found.remove(&(held.turn, held.place)) {
            Some(Ok(Found::Sample(sample))) => {
                window.push(sample);
                return true;
            }
            Some(Ok(Found::Dropped(dropped))) => dropped.example,
            Some(Err(why)) => why,
            None => "cannot be found".to_owned(),
        };
        lose(held, "sample", &why);
        false
    });
    if let (Some(turn), Some(place), None) = (last_turn, position.open, &open) {
        let why = match found.remove(&(turn, place)) {
            Some(Err(why)) => why,
            _ => "cannot be read again".to_owned(),
        };
        lose(&Held { turn, place }, "all after", &why);
        position.open = None;
    }
    Recalled { window, open, gone }
}

/// Shows `take` what `shard` holds at each of `places`, which rise, or why it holds nothing there any more. What
/// follows the last of them is returned, unless that could not be read.
fn finds(
    shard: &dyn Shard,
    places: &[Place],
    limits: &Limits,
    mut take: impl FnMut(Place, Result<Found, String>),
) -> Option<Finds> {
    let mut reading: Option<(Finds, Place)> = None;
    for (number, &place) in places.iter().enumerate() {
        let near = reading.take().filter(|(_, last)| !shard.is_far(*last, place));
        let mut finds = match near.map_or_else(|| shard.open(place, limits), |(finds, _)| Ok(finds)) {
            Ok(finds) => finds,
            Err(error) => {
                // A shard that cannot be opened here cannot be opened further on, and each try may take long.
                for &place in &places[number..] {
                    take(place, Err(format!("the shard cannot be read again ({error})")));
                }
                return None;
            }
        };
        match finds.find(|(at, _)| at.ordinal >= place.ordinal) {
            Some((at, found)) if at == place => {
                take(place, Ok(found));
                reading = Some((finds, place));
            }
            _ => take(place, Err("the shard holds something else there now".into())),
        }
    }
    reading.map(|(finds, _)| finds)
}
