//! What a long stage says while it runs, and when it saves: rarely enough not to hold the device up.

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::recipe::Training;

/// Updates between two looks at the loss, which wait for the device.
const LOOK_EVERY: u64 = 10;
/// Time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The progress of one stage.
#[derive(Debug)]
pub(super) struct Progress {
    stage: &'static str,
    from: u64,
    start: Instant,
    last_line: Instant,
    last_save: Instant,
    /// The sum of the losses since the last look, on the device.
    sum: Tensor,
    looked_at: u64,
}

/// What there is to do after an update.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// A line to say.
    pub(super) line: Option<String>,
    /// Whether to write a checkpoint.
    pub(super) save: bool,
}

impl Progress {
    /// A stage that goes on from update number `from`.
    pub(super) fn new(stage: &'static str, from: u64, device: Device) -> Self {
        let now = Instant::now();
        Progress {
            stage,
            from,
            start: now,
            last_line: now,
            last_save: now,
            sum: Tensor::zeros([], (Kind::Float, device)),
            looked_at: from,
        }
    }

    /// Counts the update that made `done` updates in all.
    pub(super) fn update(&mut self, done: u64, loss: &Tensor, training: &Training) -> Due {
        self.sum += loss.detach();
        let last = done == training.steps;
        if !done.is_multiple_of(LOOK_EVERY) && !last {
            return Due::default();
        }
        let mut due = Due::default();
        if self.last_line.elapsed() >= LINE_EVERY || last {
            let mean = self.sum.double_value(&[]) / (done - self.looked_at) as f64;
            self.sum = self.sum.zeros_like();
            self.looked_at = done;
            self.last_line = Instant::now();
            due.line = Some(self.line(done, mean, training));
        }
        if self.last_save.elapsed() >= SAVE_EVERY && !last {
            self.last_save = Instant::now();
            due.save = true;
        }
        due
    }

    fn line(&self, done: u64, loss: f64, training: &Training) -> String {
        let elapsed = self.start.elapsed().as_secs_f64();
        let each = elapsed / (done - self.from).max(1) as f64;
        format!(
            "{}: step {done}/{}  loss {loss:.4}  lr {:.1e}  {:.1} ms a step  {elapsed:.0} s gone, {:.0} s to go",
            self.stage,
            training.steps,
            training.learning_rate_at(done - 1),
            1e3 * each,
            each * (training.steps - done) as f64
        )
    }
}
