//! Reading, decoding and assembling on threads ahead of the consumer, with the outcome of doing it in line.
//!
//! A reader thread walks the order. For each sample it puts a job into one queue, which the decoding threads share,
//! and a ticket into another, which the assembling thread takes in order: a ticket is where the answer to its job
//! will arrive. Every queue is bounded. Whoever finds the other end of a queue gone stops, so dropping the consumer's
//! end stops all of them.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::assemble::{Assembler, Outcome};
use crate::batch::Batch;
use crate::config::DataConfig;
use crate::cursor::{Cursor, Moved};
use crate::decoder::{Decoded, Decoder};
use crate::drops::Dropped;
use crate::error::DataError;
use crate::order::{Event, Order};
use crate::sample::Sample;
use crate::waiting::Waiting;

/// Batches that wait, finished, for the consumer.
const BATCHES_AHEAD: usize = 2;

/// Samples in flight for each decoding thread, so that none waits for another's long picture.
const SAMPLES_PER_WORKER: usize = 4;

/// Bytes of the pictures that are decoded at once, at most: those of the batch in use, of the batches that wait for it
/// or are put together, and of the samples in flight. While a picture is decoded it takes more, by its stored size.
pub(crate) fn bytes_ahead(config: &DataConfig) -> u64 {
    let numbers = 3 * u64::from(config.resolution).pow(2);
    let batch = 4 * numbers * config.batch_size as u64;
    match config.num_workers as u64 {
        0 => batch,
        workers => (BATCHES_AHEAD as u64 + 2) * batch + workers * SAMPLES_PER_WORKER as u64 * numbers,
    }
}

type Answer = Result<Decoded, Dropped>;
/// A batch and the place after it.
pub(crate) type Delivery = Result<(Batch, Cursor), DataError>;

/// What will be known of an event, and how the position in the order changes by it.
struct Ticket {
    event: Promise,
    moved: Moved,
}

enum Promise {
    Drawn(Receiver<Answer>),
    Dropped(Dropped),
    EpochEnd { untried: usize },
}

struct Job {
    sample: Sample,
    answer: Sender<Answer>,
}

/// The threads, and the queue of what they finish.
#[derive(Debug)]
pub(crate) struct Threads {
    batches: Option<Receiver<Delivery>>,
    handles: Vec<JoinHandle<()>>,
    waiting: Waiting,
    max_wait: Duration,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start(config: &DataConfig, order: Order, assembler: Assembler) -> Result<Self, DataError> {
        // Declared before the queues, and so dropped after them: should a thread not start, those that did find their
        // queues gone and can be joined.
        let mut threads = Threads {
            batches: None,
            handles: Vec::new(),
            waiting: Waiting::default(),
            max_wait: config.giving_up.max_wait,
        };
        let in_flight = config.num_workers.saturating_mul(SAMPLES_PER_WORKER);
        let (tickets_in, tickets) = bounded(in_flight);
        let (jobs_in, jobs) = bounded(in_flight);
        let (batches_in, batches) = bounded(BATCHES_AHEAD);
        for _ in 0..config.num_workers {
            let (jobs, decoder) = (jobs.clone(), Decoder::new(config));
            threads.spawn("data-decode", move || decode(&jobs, decoder))?;
        }
        // Only the decoding threads may hold this end, or the reader would not notice that they are gone.
        drop(jobs);
        threads.spawn("data-read", move || read(order, &tickets_in, &jobs_in))?;
        let waiting = threads.waiting.clone();
        threads.spawn("data-assemble", move || {
            assemble(assembler, &tickets, &batches_in, &waiting)
        })?;
        threads.batches = Some(batches);
        Ok(threads)
    }

    /// The next batch. After a wait in vain the threads are left to themselves: one of them may hang in a read that
    /// nobody can break off.
    pub(crate) fn next(&mut self) -> Delivery {
        let died = Err(DataError::ThreadDied {
            name: "data-assemble",
        });
        let Some(batches) = &self.batches else {
            return died;
        };
        let asked = Instant::now();
        loop {
            let received = match self.waiting.deadline(asked, self.max_wait) {
                Some(deadline) => batches.recv_deadline(deadline),
                None => batches.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(delivery) => return delivery,
                Err(RecvTimeoutError::Disconnected) => return died,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let deadline = self.waiting.deadline(asked, self.max_wait);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.handles.clear();
                return Err(self.waiting.in_vain(self.max_wait));
            }
        }
    }

    fn spawn(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), DataError> {
        self.handles.push(spawn(name, work)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.batches = None;
        for handle in self.handles.drain(..) {
            // A thread that panicked has told so by not delivering.
            let _ = handle.join();
        }
    }
}

/// Starts a thread of this name.
///
/// # Errors
/// The system gives none.
pub(crate) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, DataError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|source| DataError::Spawn { name, source })
}

fn read(mut order: Order, tickets: &Sender<Ticket>, jobs: &Sender<Job>) {
    loop {
        let (event, moved) = order.advance();
        let (event, job) = match event {
            Event::Sample(sample) => {
                let (answer, answers) = bounded(1);
                (Promise::Drawn(answers), Some(Job { sample, answer }))
            }
            Event::Dropped(dropped) => (Promise::Dropped(dropped), None),
            Event::EpochEnd { untried } => (Promise::EpochEnd { untried }, None),
        };
        if tickets.send(Ticket { event, moved }).is_err() {
            return;
        }
        if let Some(job) = job
            && jobs.send(job).is_err()
        {
            return;
        }
    }
}

fn decode(jobs: &Receiver<Job>, mut decoder: Decoder) {
    for Job { sample, answer } in jobs {
        // Nobody waits for the answer once the loader is being dropped.
        let _ = answer.send(decoder.decode(sample));
    }
}

fn assemble(
    mut assembler: Assembler,
    tickets: &Receiver<Ticket>,
    batches: &Sender<Delivery>,
    waiting: &Waiting,
) {
    loop {
        let batch = assembler.batch(|| {
            let died = |name| move |_| DataError::ThreadDied { name };
            let Ticket { event, moved } = tickets.recv().map_err(died("data-read"))?;
            let outcome = match event {
                Promise::Drawn(answers) => Outcome::Drawn(answers.recv().map_err(died("data-decode"))?),
                Promise::Dropped(dropped) => Outcome::Dropped(dropped),
                Promise::EpochEnd { untried } => Outcome::EpochEnd { untried },
            };
            waiting.note(&outcome);
            Ok((outcome, moved))
        });
        waiting.batch_is_complete();
        let failed = batch.is_err();
        let delivery = batch.map(|batch| (batch, assembler.cursor().clone()));
        if batches.send(delivery).is_err() || failed {
            return;
        }
    }
}
