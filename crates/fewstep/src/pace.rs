//! The numbers of a run as a person reads them: smoothed, and over the last steps.
//!
//! It is given numbers, and knows no clock but theirs.

use std::collections::VecDeque;

use fewstep_train::StepMetrics;

/// How much of the loss that is shown is the last steps' own: a loss by itself jumps with its timesteps.
const KEPT: f64 = 0.95;
/// Speeds are over so many steps.
const STEPS: usize = 20;

/// The last steps of a run.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The weighted sum of losses, and that of their weights.
    loss: (f64, f64),
    last: VecDeque<StepMetrics>,
}

impl Pace {
    /// Another step is done.
    pub(crate) fn add(&mut self, metrics: &StepMetrics) {
        let (sum, weight) = self.loss;
        self.loss = (KEPT * sum + metrics.loss, KEPT * weight + 1.0);
        if self.last.len() == STEPS {
            self.last.pop_front();
        }
        self.last.push_back(metrics.clone());
    }

    /// The last step's number, if there was one.
    pub(crate) fn step(&self) -> Option<u64> {
        self.last.back().map(|metrics| metrics.step)
    }

    /// Loss, learning rate, speed, the share of the time that went into waiting for data, and memory.
    pub(crate) fn line(&self) -> String {
        let Some(newest) = self.last.back() else {
            return "before the first step".to_owned();
        };
        let loss = self.loss.0 / self.loss.1;
        let (per_s, waiting) = self.speed();
        let memory = newest
            .memory_gb
            .map_or_else(String::new, |memory| format!("  {memory:.1} GB"));
        format!(
            "loss {loss:.5}  lr {:.2e}  {per_s:.2} samples/s  data wait {:.0} %{memory}",
            newest.lr,
            100.0 * waiting
        )
    }

    /// Samples a second, and the share of the time without data.
    fn speed(&self) -> (f64, f64) {
        // A step's time is by its own account: what is between steps (pictures, a checkpoint in line) is no step's.
        let per_step = match (self.last.front(), self.last.back()) {
            (Some(first), Some(last)) if last.step > first.step => {
                (last.samples - first.samples) as f64 / (last.step - first.step) as f64
            }
            _ => return (self.last.back().map_or(0.0, |only| only.samples_per_s), 0.0),
        };
        let seconds: f64 = self.last.iter().map(|step| per_step / step.samples_per_s).sum();
        let waited: f64 = self.last.iter().map(|step| step.data_wait_s).sum();
        let steps = self.last.len() as f64;
        (steps * per_step / seconds, (waited / seconds).clamp(0.0, 1.0))
    }

    /// What was left out and skipped since the start of the run, by cause; nothing where nothing was.
    pub(crate) fn lost(&self) -> String {
        let Some(newest) = self.last.back() else {
            return String::new();
        };
        let counts = newest.dropped.iter().chain(&newest.skipped);
        let words: Vec<String> = counts.map(|(cause, count)| format!("{cause} {count}")).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, loss: f64, samples_per_s: f64) -> StepMetrics {
        StepMetrics {
            step,
            samples: 4 * step,
            time: 0.0,
            loss,
            lr: 1e-4,
            grad_norm: 1.0,
            samples_per_s,
            data_wait_s: 0.5,
            memory_gb: Some(1.25),
            dropped: [("bad_picture".to_owned(), 3.into())].into_iter().collect(),
            skipped: serde_json::Map::new(),
        }
    }

    #[test]
    fn the_loss_is_smoothed_and_the_speed_is_of_time() {
        let mut pace = Pace::default();
        assert_eq!(
            (pace.step(), pace.line().as_str()),
            (None, "before the first step")
        );
        // Four samples in one second, and four in three.
        pace.add(&step(1, 1.0, 4.0));
        assert!(
            pace.line()
                .starts_with("loss 1.00000  lr 1.00e-4  4.00 samples/s"),
            "{}",
            pace.line()
        );
        pace.add(&step(2, 2.0, 4.0 / 3.0));
        assert_eq!(
            pace.line(),
            "loss 1.51282  lr 1.00e-4  2.00 samples/s  data wait 25 %  1.2 GB"
        );
        assert_eq!((pace.step(), pace.lost().as_str()), (Some(2), "bad_picture 3"));
    }

    #[test]
    fn old_steps_count_no_more_for_the_speed() {
        let mut pace = Pace::default();
        pace.add(&step(1, 1.0, 0.001));
        for number in 2..=21 {
            pace.add(&step(number, 1.0, 4.0));
        }
        assert!(pace.line().contains(" 4.00 samples/s"), "{}", pace.line());
    }
}
