//! The loader: what the trainer holds. It joins order, decoding and assembling, in line or on threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::assemble::{Assembler, Outcome};
use crate::batch::Batch;
use crate::cache::Latents;
use crate::config::{Crop, DataConfig, Origin};
use crate::cursor::Cursor;
use crate::decoder::Decoder;
use crate::drops::Drops;
use crate::error::DataError;
use crate::order::{Event, Order};
use crate::resume::{self, Resumed};
use crate::shard::{Archive, Shard};
use crate::source::{Access, Environment};
use crate::threads::{Delivery, Threads};
use crate::waiting::Waiting;
use crate::{folder, spec};

/// An endless supply of batches. Dropping it stops and joins its threads, and breaks off what they read from elsewhere.
#[derive(Debug)]
pub struct Loader {
    /// Dropped first, for threads that wait for bytes from elsewhere would otherwise be waited for.
    closing: Closing,
    work: Work,
    cursor: Cursor,
}

/// Breaks off what is being read when it is dropped.
#[derive(Debug)]
struct Closing(Access);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
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
    access: Access,
    max_wait: Duration,
}

/// A loader that knows its data and has read none of them yet.
#[derive(Debug)]
pub struct Prepared {
    config: DataConfig,
    closing: Closing,
    order: Order,
    cursor: Cursor,
}

impl Prepared {
    /// At the beginning of the order.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn new(config: DataConfig) -> Result<Self, DataError> {
        let access = access(&config);
        let order = open(&config, &access)?;
        let cursor = Cursor::start(order.id());
        Ok(Prepared {
            config,
            closing: Closing(access),
            order,
            cursor,
        })
    }

    /// After `cursor`, and what that came to.
    ///
    /// # Errors
    /// As [`Loader::resume`].
    pub fn resume(config: DataConfig, cursor: &Cursor) -> Result<(Self, Resumed), DataError> {
        if !cursor.is_sound() {
            return Err(DataError::BadCursor);
        }
        let access = access(&config);
        let mut order = open(&config, &access)?;
        let (cursor, resumed) = resume::go_to(&mut order, cursor.clone());
        let prepared = Prepared {
            config,
            closing: Closing(access),
            order,
            cursor,
        };
        Ok((prepared, resumed))
    }

    /// The most samples of an epoch, where that is known without reading it: in a folder.
    pub fn samples(&self) -> Option<u64> {
        self.order.samples()
    }

    /// Begins to read. What a VAE made of pictures before need not be decoded, if `latents` has it.
    ///
    /// # Errors
    /// Latents of random crops, or a thread that the system does not give.
    pub fn start(self, latents: Option<Latents>) -> Result<Loader, DataError> {
        let Prepared {
            mut config,
            closing,
            order,
            cursor,
        } = self;
        config.latents = latents;
        check_latents(&config)?;
        Loader::start(&config, closing, order, cursor)
    }
}

impl Loader {
    /// A loader at the beginning of the order.
    ///
    /// # Errors
    /// Impossible options, shards that do not exist. What is in the shards shows as they are read.
    pub fn new(config: DataConfig) -> Result<Self, DataError> {
        let latents = config.latents.clone();
        Prepared::new(config)?.start(latents)
    }

    /// A loader that goes on after `cursor`, and what that came to: where seed, window, ranks and shards are those of
    /// the loader that gave the cursor, its first sample is the very next one, whatever the batch size and the number
    /// of threads. Otherwise it begins the next epoch, of the new order; sample numbers go on, so that none is used
    /// twice. Where the number of ranks has changed, all ranks are to be given the same cursor.
    ///
    /// It reads the samples that were in the shuffle window again. A shard whose source cannot seek is read from its
    /// beginning for that.
    ///
    /// # Errors
    /// As [`Loader::new`]; a cursor that is damaged.
    pub fn resume(config: DataConfig, cursor: &Cursor) -> Result<(Self, Resumed), DataError> {
        let latents = config.latents.clone();
        let (prepared, resumed) = Prepared::resume(config, cursor)?;
        Ok((prepared.start(latents)?, resumed))
    }

    fn start(config: &DataConfig, closing: Closing, order: Order, cursor: Cursor) -> Result<Self, DataError> {
        let access = &closing.0;
        let assembler = Assembler::new(config, access.clone(), order.shard_count(), cursor.clone());
        let work = if config.num_workers == 0 {
            Work::InLine(Box::new(InLine {
                order,
                decoder: Decoder::new(config),
                assembler,
                access: access.clone(),
                max_wait: config.giving_up.max_wait,
            }))
        } else {
            Work::Threads(Threads::start(config, order, assembler)?)
        };
        Ok(Loader {
            closing,
            work,
            cursor,
        })
    }

    /// The next batch, always a full one.
    ///
    /// # Errors
    /// An epoch in which not one sample could be used, too many that could not, or none for too long, with the table
    /// of what was dropped. After an error there are no more batches.
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
                self.closing.0.close();
                self.work = Work::Ended;
                Err(self.with_all_drops(error))
            }
        }
    }

    /// A wait in vain knows what was dropped since the last batch; the table has what was dropped before, too.
    fn with_all_drops(&self, error: DataError) -> DataError {
        let DataError::Stalled { waited, drops: since } = error else {
            return error;
        };
        let mut drops = self.cursor.drops().clone();
        drops.absorb(*since);
        drops.absorb(self.closing.0.take_retried());
        DataError::Stalled {
            waited,
            drops: Box::new(drops),
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
            access,
            max_wait,
        } = self;
        let (waiting, asked) = (Waiting::default(), Instant::now());
        let batch = assembler.batch(|| {
            let deadline = waiting.deadline(asked, *max_wait);
            access.give_up_at(deadline);
            let (event, moved) = order.advance();
            if access.gave_up() {
                return Err(waiting.in_vain(*max_wait));
            }
            let outcome = match event {
                Event::Sample(sample) => Outcome::Drawn(decoder.decode(sample)),
                Event::Dropped(dropped) => Outcome::Dropped(dropped),
                Event::EpochEnd { untried } => Outcome::EpochEnd { untried },
            };
            waiting.note(&outcome);
            let passed = matches!(outcome, Outcome::Drawn(Ok(_)));
            if !passed && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(waiting.in_vain(*max_wait));
            }
            Ok((outcome, moved))
        });
        access.give_up_at(None);
        Ok((batch?, assembler.cursor().clone()))
    }
}

/// Latents are of squares that come again.
pub(crate) fn check_latents(config: &DataConfig) -> Result<(), DataError> {
    if config.latents.is_some() && config.crop == Crop::Random {
        return Err(DataError::Config {
            what: "cache of latents",
            why: "is of no use for random crops, which never come again; crop the middle, or one of few places",
        });
    }
    Ok(())
}

pub(crate) fn access(config: &DataConfig) -> Access {
    Access::new(config.sources, Environment::of_process())
}

pub(crate) fn open(config: &DataConfig, access: &Access) -> Result<Order, DataError> {
    config.check()?;
    let wanted = Arc::new(config.wanted.clone());
    let shards = match &config.origin {
        Origin::Shards(specs) => spec::expand(specs, access)?
            .into_iter()
            .map(|source| Arc::new(Archive::new(source, Arc::clone(&wanted))) as Arc<dyn Shard>)
            .collect(),
        Origin::Folder(folder) => folder::list(folder)?,
    };
    Ok(Order::new(shards, config.into()))
}
