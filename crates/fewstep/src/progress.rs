//! How far a run has come: a bar on a terminal, a line now and then elsewhere.
//!
//! It shows numbers that it is given, and knows nothing of training.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::terminal;

/// Where nobody watches, a line is written this often at first, ever more seldom, and at last this seldom: a log of days
/// stays short.
const OFTEN: Duration = Duration::from_secs(15);
const SELDOM: Duration = Duration::from_secs(240);

/// The progress of a run with a known number of steps.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` where lines are written.
    bar: Option<ProgressBar>,
    total: u64,
    /// The step at which, and the moment when, this process began.
    start: (u64, Instant),
    last_line: Option<Instant>,
    /// How long after it the next one is due.
    pause: Duration,
}

impl Progress {
    /// A run that stands at step `done` of `total`.
    pub(crate) fn new(done: u64, total: u64) -> Self {
        let bar = terminal::is_watched().then(|| bar(done, total));
        Progress {
            bar,
            total,
            start: (done, Instant::now()),
            last_line: None,
            pause: OFTEN,
        }
    }

    /// The run has ended step `step`; `numbers` say what came of it.
    pub(crate) fn step(&mut self, step: u64, numbers: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(numbers.to_owned());
            bar.set_position(step);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= self.pause);
        if due || step == self.total {
            if self.last_line.is_some() {
                self.pause = (self.pause + self.pause / 4).min(SELDOM);
            }
            self.last_line = Some(Instant::now());
            let line = format!("step {step}/{}  {numbers}  {}", self.total, self.left(step));
            terminal::note(line.trim_end());
        }
    }

    /// What can say something between the steps, from any thread.
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker(self.bar.clone())
    }

    /// Leaves the bar as it stands.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
            // It leaves the cursor at its end.
            terminal::note("");
        }
    }

    /// The time that the rest takes if it goes on as since the start, in words.
    pub(crate) fn left(&self, step: u64) -> String {
        let (first, moment) = self.start;
        let (done, rest) = (step.saturating_sub(first), self.total.saturating_sub(step));
        if done == 0 || rest == 0 {
            return String::new();
        }
        let seconds = moment.elapsed().as_secs_f64() / done as f64 * rest as f64;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) => format!("{} left", HumanDuration(time)),
            Err(_) => String::new(),
        }
    }
}

/// Says things without disturbing the bar.
#[derive(Debug, Clone)]
pub(crate) struct Speaker(Option<ProgressBar>);

impl Speaker {
    /// Writes a line.
    pub(crate) fn say(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| terminal::note(text)),
            None => terminal::note(text),
        }
    }
}

fn bar(done: u64, total: u64) -> ProgressBar {
    // The template is a constant; were it wrong, indicatif's own style would do.
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style).with_position(done);
    // The time left is counted from here, not from the steps of an earlier process.
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
