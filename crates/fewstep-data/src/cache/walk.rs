//! One pass over some data: each sample once, and what of it the cache has not. For whoever fills a cache ahead; it
//! writes nothing itself.

use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Key, Latents};
use crate::config::{DataConfig, Drawing, GivingUp, Part};
use crate::decoder::{Decoded, Decoder, Picture};
use crate::drops::{Dropped, Drops};
use crate::error::DataError;
use crate::loader;
use crate::order::{Event, Order};
use crate::picture::{self, Rgb, Square};
use crate::sample::Sample;
use crate::source::Access;
use crate::threads::spawn;
use crate::verdict::{self, Moment, Sofar};

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
    giving_up: GivingUp,
    drops: Drops,
    passed: u64,
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
            giving_up: config.giving_up,
            drops: Drops::default(),
            passed: 0,
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

    /// What was left out so far.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The next sample, or `None` at the end.
    fn receive(&mut self) -> Result<Option<Missing>, DataError> {
        let max_wait = self.giving_up.max_wait;
        let deadline = Instant::now().checked_add(max_wait);
        loop {
            let Some(found) = &self.found else { return Ok(None) };
            let found = match deadline {
                Some(deadline) => found.recv_deadline(deadline),
                None => found.recv().map_err(RecvTimeoutError::from),
            };
            self.drops.absorb(self.access.take_retried());
            let ended = match found {
                Ok(Ok(missing)) => {
                    self.passed += 1;
                    return Ok(Some(missing));
                }
                Ok(Err(dropped)) => {
                    self.drops.add(dropped);
                    false
                }
                Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            if ended {
                return self.end().map(|()| None);
            }
            self.judge(Moment::WithinEpoch)?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // One of the threads may hang in a read that nobody can break off.
                self.handles.clear();
                return Err(DataError::Stalled {
                    waited: max_wait.as_secs_f64(),
                    drops: Box::new(self.drops.clone()),
                });
            }
        }
    }

    fn end(&self) -> Result<(), DataError> {
        self.judge(Moment::EpochEnd)?;
        if self.passed > 0 {
            return Ok(());
        }
        Err(DataError::NothingPassed {
            shards: self.shards,
            noun: self.noun,
            drops: Box::new(self.drops.clone()),
        })
    }

    /// Whether it is worth going on. How many shards were opened is known at the end.
    fn judge(&self, moment: Moment) -> Result<(), DataError> {
        let sofar = Sofar {
            drops: &self.drops,
            passed: self.passed,
            opened: self.shards as u64,
        };
        verdict::judge(&self.giving_up, sofar, moment)
    }

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), DataError> {
        self.handles.push(spawn(name, work)?);
        Ok(())
    }
}

impl Iterator for Walk {
    /// An error is the last item: data of which too much is bad, or nothing usable for too long, as with a
    /// [`Loader`](crate::Loader).
    type Item = Result<Missing, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.receive().transpose();
        if !matches!(received, Some(Ok(_))) {
            self.found = None;
        }
        received
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
