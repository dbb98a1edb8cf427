//! A folder of pictures to WebDataset shards: pictures byte for byte, each with its caption and its size.
//!
//! The shards are written into `OUT.packing`, a folder beside `OUT`, which gets its name when all of them are
//! complete: a folder `OUT` is whole or not there. What an interrupted call left is thrown away by the next. The same
//! folder makes the same bytes.

mod archive;
mod error;
mod place;

pub use error::PackError;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Drawing, Limits, Part, PictureFolder};
use crate::drops::{Cause, Dropped, Drops};
use crate::folder;
use crate::order::{Event, Order, OrderOptions};
use crate::sample::{Found, Sample};
use crate::shard::Shard;
use archive::Archives;
use place::Place;

/// Samples among which the next one is drawn where the order is mixed.
const WINDOW: usize = 1000;

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct PackConfig {
    /// The pictures.
    pub folder: PictureFolder,
    /// The folder of the shards: it may not exist, or must be empty.
    pub out: PathBuf,
    /// Samples in a shard; the last one may have fewer.
    pub shard_size: u64,
    /// Mixes the samples, as an epoch of training with this seed; without it they keep the folder's order.
    pub seed: Option<u64>,
    /// Bounds on what is read into memory.
    pub limits: Limits,
}

/// What came of it, so far or in the end.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// Shards written.
    pub shards: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of their pictures.
    pub picture_bytes: u64,
    /// Captions that only the samples' JSON has: the second and further ones of a list.
    pub further_captions: u64,
    /// What was left out, and why.
    pub drops: Drops,
}

/// Packs the folder; `watch` sees after each picture what was done.
///
/// A picture whose header cannot be read is left out. Its pixels are not decoded: the loader does that, and counts
/// what it cannot use.
///
/// # Errors
/// The folder has no captioned pictures, `out` is occupied or cannot be written, or not one sample was found.
pub fn pack(config: &PackConfig, watch: &mut dyn FnMut(&Packed)) -> Result<Packed, PackError> {
    let shards = folder::list(&config.folder)?;
    let place = Place::prepare(&config.out)?;
    let mut archives = Archives::new(place.work(), config.shard_size);
    let mut packed = Packed::default();
    for found in finds(shards, config) {
        let outcome = match found {
            Found::Sample(sample) => add(&mut archives, sample, &mut packed)?,
            Found::Dropped(dropped) => Err(dropped),
        };
        if let Err(dropped) = outcome {
            packed.drops.add(dropped);
        }
        packed.shards = archives.count();
        watch(&packed);
    }
    archives.finish()?;
    packed.shards = archives.count();
    if packed.samples == 0 {
        place.clear()?;
        return Err(PackError::Nothing {
            folder: config.folder.path.clone(),
            drops: Box::new(packed.drops),
        });
    }
    place.complete()?;
    Ok(packed)
}

/// Puts a sample into the shards, or says why not.
fn add(
    archives: &mut Archives,
    sample: Sample,
    packed: &mut Packed,
) -> Result<Result<(), Dropped>, PackError> {
    let picture = match archive::picture(&sample.image) {
        Ok(picture) => picture,
        Err(error) => {
            let example = format!("{} {error}", sample.name());
            return Ok(Err(Dropped::new(Cause::BadPicture, &example)));
        }
    };
    archives.add(&sample, &picture)?;
    packed.samples += 1;
    packed.picture_bytes += sample.image.len() as u64;
    packed.further_captions += sample.captions.len().saturating_sub(1) as u64;
    Ok(Ok(()))
}

/// Everything in `shards`, once.
fn finds(shards: Vec<Arc<dyn Shard>>, config: &PackConfig) -> Box<dyn Iterator<Item = Found>> {
    let limits = config.limits;
    let Some(seed) = config.seed else {
        return Box::new(shards.into_iter().flat_map(move |shard| {
            let finds = shard.open(crate::Place::START, &limits).unwrap_or_else(|error| {
                let dropped = Dropped::shard(shard.name(), &error);
                Box::new(std::iter::once((crate::Place::START, Found::Dropped(dropped))))
            });
            finds.map(|(_, found)| found)
        }));
    };
    let options = OrderOptions {
        seed,
        window: WINDOW,
        drawing: Drawing::EachOnce,
        part: Part::WHOLE,
        limits,
    };
    let mut order = Order::new(shards, options);
    Box::new(std::iter::from_fn(move || match order.next_event() {
        Event::Sample(sample) => Some(Found::Sample(sample)),
        Event::Dropped(dropped) => Some(Found::Dropped(dropped)),
        Event::EpochEnd { .. } => None,
    }))
}
