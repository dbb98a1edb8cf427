//! The second half of a sample's way into a batch, which happens in order: here samples get their numbers, crops and
//! flips, and drops are counted. It knows no threads, and decodes nothing but what a damaged cache has not.

use fewstep_draw::{Purpose, Stream};

use crate::batch::{Batch, LatentsOf, PictureSizes};
use crate::config::{DataConfig, Part};
use crate::cursor::{Cursor, Moved};
use crate::decoder::{Decoded, Decoder, Picture};
use crate::drops::Dropped;
use crate::error::DataError;
use crate::picture::{self, Square};
use crate::source::Access;
use crate::verdict::{self, Moment, Sofar};

/// What became of the next event of the order.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A sample was drawn and could be decoded, or not.
    Drawn(Result<Decoded, Dropped>),
    /// Something that was never drawn.
    Dropped(Dropped),
    /// The epoch is over; of so many shards nothing was seen yet.
    EpochEnd { untried: usize },
}

/// Numbers samples, crops them and joins them to batches.
#[derive(Debug)]
pub(crate) struct Assembler {
    config: DataConfig,
    /// For pictures that the cache turns out not to have.
    decoder: Decoder,
    access: Access,
    shards: usize,
    cursor: Cursor,
    /// Whether any sample was delivered since every shard had been tried.
    passed: bool,
}

impl Assembler {
    /// Goes on at `cursor`; an epoch has `shards` shards, read through `access`.
    pub(crate) fn new(config: &DataConfig, access: Access, shards: usize, cursor: Cursor) -> Self {
        Assembler {
            config: config.clone(),
            decoder: Decoder::new(config),
            access,
            shards,
            cursor,
            passed: false,
        }
    }

    /// The place after the last sample assembled.
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// One batch from the outcomes that `next` yields in order.
    pub(crate) fn batch(
        &mut self,
        mut next: impl FnMut() -> Result<(Outcome, Moved), DataError>,
    ) -> Result<Batch, DataError> {
        let size = self.config.batch_size;
        let mut batch = Batch {
            pixels: Vec::new(),
            latents: Vec::with_capacity(size),
            resolution: self.config.resolution,
            captions: Vec::with_capacity(size),
            sample_numbers: Vec::with_capacity(size),
            sizes: Vec::with_capacity(size),
            keys: Vec::with_capacity(size),
        };
        // A batch of every rank is one long batch: this rank's samples have their numbers after those of the ranks
        // before it.
        let Part { rank, ranks } = self.config.part;
        let first = self.cursor.samples + rank * size as u64;
        while batch.len() < size {
            let (outcome, moved) = next()?;
            self.cursor.follow(moved);
            match outcome {
                Outcome::Drawn(Ok(decoded)) => {
                    let number = first + batch.len() as u64;
                    if let Err(dropped) = self.add(decoded, number, &mut batch) {
                        self.cursor.drops.add(dropped);
                    }
                }
                Outcome::Drawn(Err(dropped)) | Outcome::Dropped(dropped) => {
                    self.cursor.drops.add(dropped);
                    self.judge(&batch, Moment::WithinEpoch)?;
                }
                Outcome::EpochEnd { untried } => {
                    self.end_epoch(untried)?;
                    self.judge(&batch, Moment::EpochEnd)?;
                }
            }
        }
        self.cursor.samples += ranks * size as u64;
        self.count_retries();
        Ok(batch)
    }

    /// Adds a sample, unless it turns out now that its picture cannot be had.
    fn add(&mut self, decoded: Decoded, number: u64, batch: &mut Batch) -> Result<(), Dropped> {
        let square = self.config.square(decoded.digest, decoded.size, number);
        let latents = self.latents(&decoded, square, &mut batch.pixels)?;
        self.passed = true;
        batch.latents.push(latents);
        batch.captions.push(self.caption(decoded.captions, number));
        batch.sample_numbers.push(number);
        batch.keys.push(decoded.name);
        batch.sizes.push(PictureSizes {
            original: decoded.original,
            crop_top_left: square.top_left_seen(decoded.size.1),
            target: (square.side, square.side),
        });
        Ok(())
    }

    /// What the cache has of the square, or else its pixels, which are added to `pixels`.
    fn latents(
        &mut self,
        decoded: &Decoded,
        square: Square,
        pixels: &mut Vec<f32>,
    ) -> Result<LatentsOf, Dropped> {
        let cache = self.config.latents.as_ref();
        let key = cache.map(|latents| latents.key(&self.config, decoded.digest, square));
        if let Some(known) = cache.zip(key).and_then(|(latents, key)| latents.get(key)) {
            return Ok(LatentsOf::Known(known));
        }
        let again;
        let picture = match &decoded.picture {
            Picture::Resized(picture) => picture,
            // The cache had it a moment ago: its file is damaged.
            Picture::Known(file) => {
                again = self.decoder.picture(&decoded.name, file)?;
                &again
            }
        };
        picture::push_square(picture, square, pixels);
        Ok(LatentsOf::Pixels(key))
    }

    /// Draws one of the captions for sample `number`.
    fn caption(&self, captions: Vec<String>, number: u64) -> String {
        let place = match captions.len() {
            0 | 1 => 0,
            several => Stream::new(self.config.seed, Purpose::CaptionChoice, number).below(several as u64),
        };
        captions.into_iter().nth(place as usize).unwrap_or_default()
    }

    /// What was tried again has no place in the order: it counts when it happened.
    fn count_retries(&mut self) {
        self.cursor.drops.absorb(self.access.take_retried());
    }

    /// Whether it is worth going on, `batch` being under way.
    fn judge(&self, batch: &Batch, moment: Moment) -> Result<(), DataError> {
        let sofar = Sofar {
            drops: &self.cursor.drops,
            passed: self.cursor.samples / self.config.part.ranks + batch.len() as u64,
            opened: self.cursor.opened(),
        };
        verdict::judge(&self.config.giving_up, sofar, moment)
    }

    /// The next epoch begins, unless every shard has been tried and had nothing to give: it would not either.
    fn end_epoch(&mut self, untried: usize) -> Result<(), DataError> {
        if untried > 0 {
            return Ok(());
        }
        if !self.passed {
            self.count_retries();
            return Err(DataError::NothingPassed {
                shards: self.shards,
                noun: self.config.origin.noun(),
                drops: Box::new(self.cursor.drops.clone()),
            });
        }
        self.passed = false;
        Ok(())
    }
}
