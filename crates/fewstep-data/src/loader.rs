//! The loader: what the trainer holds. It joins order, decoding and assembling, in line or on threads.

use std::sync::Arc;

use crate::assemble::{Assembler, Outcome};
use crate::batch::Batch;
use crate::config::{DataConfig, Origin};
use crate::cursor::Cursor;
use crate::decoder::Decoder;
use crate::drops::Drops;
use crate::error::DataError;
use crate::order::{Event, Order};
use crate::shard::{Archive, Shard};
use crate::threads::{Delivery, Threads};
use crate::{folder, spec};

/// An endless supply of batches. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    work: Work,
    cursor: Cursor,
}

#[derive(Debug)]
enum Work {
    InLine(Box<InLine>),
    Threads(Threads),
    Ended,
}

#[derive(Debug)]
struct InLine {
    order: Order,
    decoder: Decoder,
    assembler: Assembler,
}

impl Loader {
    /// A loader at the beginning of the order.
    ///
    /// # Errors
    /// Impossible options, shards that do not exist. What is in the shards shows as they are read.
    pub fn new(config: DataConfig) -> Result<Self, DataError> {
        let order = open(&config)?;
        let cursor = Cursor::start(order.digest());
        Self::start(&config, order, cursor)
    }

    /// A loader whose first sample is the one after `cursor`. Batch size and number of threads may differ from those
    /// of the loader that gave the cursor; seed, window and shards may not. It reads the current epoch up to that
    /// place, without decoding it.
    ///
    /// # Errors
    /// As [`Loader::new`]; a cursor of another order; shards that no longer hold what they held.
    pub fn resume(config: DataConfig, cursor: &Cursor) -> Result<Self, DataError> {
        let mut order = open(&config)?;
        order.go_to(cursor)?;
        Self::start(&config, order, cursor.clone())
    }

    fn start(config: &DataConfig, order: Order, cursor: Cursor) -> Result<Self, DataError> {
        let assembler = Assembler::new(config, order.shard_count(), cursor.clone());
        let work = if config.num_workers == 0 {
            Work::InLine(Box::new(InLine {
                order,
                decoder: Decoder::new(config),
                assembler,
            }))
        } else {
            Work::Threads(Threads::start(config, order, assembler)?)
        };
        Ok(Loader { work, cursor })
    }

    /// The next batch, always a full one.
    ///
    /// # Errors
    /// An epoch in which not one sample could be used, with the table of what was dropped. After an error there are
    /// no more batches.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        let delivery = match &mut self.work {
            Work::InLine(work) => work.next(),
            Work::Threads(threads) => threads.next(),
            Work::Ended => Err(DataError::Ended),
        };
        match delivery {
            Ok((batch, cursor)) => {
                self.cursor = cursor;
                Ok(batch)
            }
            Err(error) => {
                self.work = Work::Ended;
                Err(error)
            }
        }
    }

    /// The place after the last batch delivered, however far the threads have read ahead.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Everything dropped up to the last batch delivered, since the beginning of the run.
    pub fn drops(&self) -> &Drops {
        self.cursor.drops()
    }
}

impl InLine {
    fn next(&mut self) -> Delivery {
        let InLine {
            order,
            decoder,
            assembler,
        } = self;
        let batch = assembler.batch(|| {
            Ok(match order.next_event() {
                Event::Sample(sample) => Outcome::Drawn(decoder.decode(sample)),
                Event::Dropped(dropped) => Outcome::Dropped(dropped),
                Event::EpochEnd => Outcome::EpochEnd,
            })
        })?;
        Ok((batch, assembler.cursor().clone()))
    }
}

fn open(config: &DataConfig) -> Result<Order, DataError> {
    config.check()?;
    let shards = match &config.origin {
        Origin::Shards(specs) => spec::expand(specs)?
            .into_iter()
            .map(|source| Arc::new(Archive::new(source)) as Arc<dyn Shard>)
            .collect(),
        Origin::Folder(folder) => folder::list(folder)?,
    };
    Ok(Order::new(
        shards,
        config.seed,
        config.shuffle_window,
        config.limits,
    ))
}
