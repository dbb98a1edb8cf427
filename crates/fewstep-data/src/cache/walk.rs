//! One pass over some data: each sample once, and what of it the cache has not. For whoever fills a cache ahead; it
//! writes nothing itself.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Key, Latents};
use crate::config::{DataConfig, Drawing, Part};
use crate::decoder::{Decoded, Decoder, Picture};
use crate::drops::{Dropped, Drops};
use crate::error::DataError;
use crate::loader;
use crate::order::{Event, Order};
use crate::picture::{self, Rgb, Square};
use crate::sample::Sample;
use crate::source::Access;
use crate::threads::spawn;

/// Samples that wait for each decoding thread, and as many that wait for the consumer.
const SAMPLES_PER_WORKER: usize = 4;

/// A sample, and what of its picture the cache has not.
#[derive(Debug)]
pub struct Missing {
    /// Its shard and key, for messages.
    pub name: String,
    /// Its captions, every one of which may be drawn.
    pub captions: Vec<String>,
    /// Squares that the cache has.
    pub known: usize,
    /// `None` where nothing is missing.
    picture: Option<Rgb>,
    squares: Vec<(Key, Square)>,
}

impl Missing {
    /// The key and the pixels of each square that the cache has not: `[3, side, side]`, row-major, RGB in [-1, 1].
    pub fn squares(&self) -> impl Iterator<Item = (Key, Vec<f32>)> {
        self.squares.iter().filter_map(|&(key, square)| {
            let mut pixels = Vec::new();
            picture::push_square(self.picture.as_ref()?, square, &mut pixels);
            Some((key, pixels))
        })
    }
}

/// One pass over the data, on threads, in whatever order they are done. Dropping it stops and joins them, and breaks off
/// what they read from elsewhere.
#[derive(Debug)]
pub struct Walk {
    found: Option<Receiver<Result<Missing, Dropped>>>,
    handles: Vec<JoinHandle<()>>,
    access: Access,
    drops: Drops,
    shards: usize,
    samples: Option<u64>,
    noun: &'static str,
}

impl Walk {
    /// Begins. Whatever the configuration says of the order, each sample comes once.
    ///
    /// # Errors
    /// As [`Loader::new`](crate::Loader::new).
    pub fn new(config: DataConfig, latents: Latents) -> Result<Self, DataError> {
        let config = DataConfig {
            drawing: Drawing::EachOnce,
            part: Part::WHOLE,
            shuffle_window: 1,
            latents: Some(latents.clone()),
            ..config
        };
        loader::check_latents(&config)?;
        let access = loader::access(&config);
        let order = loader::open(&config, &access)?;
        let workers = config.num_workers.max(1);
        let (jobs_in, jobs) = bounded(workers * SAMPLES_PER_WORKER);
        let (found_in, found) = bounded(workers * SAMPLES_PER_WORKER);
        let mut walk = Walk {
            found: None,
            handles: Vec::new(),
            access,
            drops: Drops::default(),
            shards: order.shard_count(),
            samples: order.samples(),
            noun: config.origin.noun(),
        };
        for _ in 0..workers {
            let worker = Worker {
                decoder: Decoder::new(&config),
                config: config.clone(),
                latents: latents.clone(),
            };
            let (jobs, found) = (jobs.clone(), found_in.clone());
            walk.spawn("cache-decode", move || worker.work(&jobs, &found))?;
        }
        // Only the threads may hold these ends, or nobody would notice that they are gone.
        drop(jobs);
        walk.spawn("cache-read", move || read(order, &jobs_in, &found_in))?;
        walk.found = Some(found);
        Ok(walk)
    }

    /// The most samples of the data, where that is known without reading them: in a folder.
    pub fn samples(&self) -> Option<u64> {
        self.samples
    }

    /// Shards of the data, and what they are called.
    pub fn shards(&self) -> (usize, &'static str) {
        (self.shards, self.noun)
    }

    /// What was left out so far.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), DataError> {
        self.handles.push(spawn(name, work)?);
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Missing;

    fn next(&mut self) -> Option<Missing> {
        loop {
            let found = self.found.as_ref().and_then(|found| found.recv().ok());
            self.drops.absorb(self.access.take_retried());
            match found? {
                Ok(missing) => return Some(missing),
                Err(dropped) => self.drops.add(dropped),
            }
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.found = None;
        self.access.close();
        for handle in self.handles.drain(..) {
            // A thread that panicked has told so on standard error.
            let _ = handle.join();
        }
    }
}

fn read(mut order: Order, jobs: &Sender<Sample>, found: &Sender<Result<Missing, Dropped>>) {
    loop {
        let gone = match order.next_event() {
            Event::Sample(sample) => jobs.send(sample).is_err(),
            Event::Dropped(dropped) => found.send(Err(dropped)).is_err(),
            Event::EpochEnd { .. } => true,
        };
        if gone {
            return;
        }
    }
}

struct Worker {
    decoder: Decoder,
    config: DataConfig,
    latents: Latents,
}

impl Worker {
    fn work(mut self, jobs: &Receiver<Sample>, found: &Sender<Result<Missing, Dropped>>) {
        for sample in jobs {
            let missing = self.decoder.decode(sample).map(|decoded| self.missing(decoded));
            if found.send(missing).is_err() {
                return;
            }
        }
    }

    fn missing(&self, decoded: Decoded) -> Missing {
        let all = self.config.squares(decoded.digest, decoded.size);
        let count = all.len();
        let keyed = all
            .into_iter()
            .map(|square| (self.latents.key(&self.config, decoded.digest, square), square));
        let squares: Vec<_> = keyed.filter(|(key, _)| !self.latents.holds(*key)).collect();
        Missing {
            name: decoded.name,
            captions: decoded.captions,
            known: count - squares.len(),
            picture: match decoded.picture {
                Picture::Resized(picture) => Some(picture),
                Picture::Known(_) => None,
            },
            squares,
        }
    }
}
