//! What a run answers while it trains: to the wish to stop, once, and to the question how it stands, each time. A thread
//! watches for both, for a step may take long, or hang.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fewstep_train::Stop;
use indicatif::HumanDuration;

use crate::pace::Pace;
use crate::progress::Speaker;

/// The answers of a run.
#[derive(Clone)]
pub(crate) struct Answer {
    speaker: Speaker,
    /// Whether the wish to stop is answered.
    stopping: Arc<Once>,
    ended: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

/// How the run stands.
struct State {
    total: u64,
    /// The last step that is known to be done, and since when.
    step: u64,
    since: Instant,
    /// The rest, in words.
    words: String,
}

impl Answer {
    /// Of a run that stands at step `done` of `total`.
    pub(crate) fn new(speaker: Speaker, done: u64, total: u64) -> Self {
        let state = State {
            total,
            step: done,
            since: Instant::now(),
            words: String::new(),
        };
        Answer {
            speaker,
            stopping: Arc::new(Once::new()),
            ended: Arc::new(AtomicBool::new(false)),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Watches for questions until the run has ended.
    pub(crate) fn watch(self, stop: Stop) {
        thread::spawn(move || {
            while !self.ended.load(Ordering::Relaxed) {
                self.if_asked(&stop);
                thread::sleep(Duration::from_millis(100));
            }
        });
    }

    /// The run has ended: nothing is answered any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Another step is done; `left` is the time that the rest takes.
    pub(crate) fn stands(&self, pace: &Pace, left: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.step = pace.step().unwrap_or(state.step);
        state.since = Instant::now();
        state.words = format!("{}  {left}", pace.line()).trim_end().to_owned();
        let lost = pace.lost();
        if !lost.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(state.words, "; left out or skipped: {lost}");
        }
    }

    /// Answers what was asked.
    pub(crate) fn if_asked(&self, stop: &Stop) {
        if stop.is_asked() {
            self.stopping.call_once(|| {
                self.speaker
                    .say("finishing this step, then writing a checkpoint; once more ends at once");
            });
        }
        if stop.take_state_wish() {
            self.speaker.say(&self.state());
        }
    }

    fn state(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        format!(
            "at step {}/{} since {}  {}",
            state.step,
            state.total,
            HumanDuration(state.since.elapsed()),
            state.words
        )
        .trim_end()
        .to_owned()
    }
}
