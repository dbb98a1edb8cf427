//! What a run does with updates that cannot be done: it tells and counts them, and ends when they are too many.

use serde_json::json;

use crate::config::OnNan;
use crate::error::TrainError;
use crate::not_finite::{NotFinite, Trace};
use crate::observer::{Event, Observer, Skip};
use crate::replay_file;
use crate::trainer::Run;

impl Run {
    /// Takes note of an update whose loss and gradient norm are not finite, and of which the device has done nothing.
    ///
    /// # Errors
    /// There were too many of them: their inputs are written for `fewstep debug step`.
    pub(crate) fn not_finite(
        &mut self,
        numbers: (f64, f64),
        traces: &[Trace],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let mut found = NotFinite::find(numbers, traces, &self.preparer.draws, &self.objective)?;
        if let Some(team) = &mut self.team {
            let all = team.ranks.collect(found.handed_in())?;
            if !all.is_empty() {
                found = found.of_all(&all);
            }
        }
        let recent = self.skipped.add_not_finite(self.step);
        let limit = match self.config.run.on_nan {
            OnNan::Stop => 0,
            OnNan::Skip => self.config.run.nan_limit,
        };
        if recent <= limit {
            return self.tell_skipped(Skip::NotFinite(found), observer);
        }
        let replay = self.leave_replay(traces);
        let error = TrainError::NotFinite {
            skipped: recent,
            on_nan: self.config.run.on_nan,
            step: self.step,
            found: Box::new(found.clone()),
            replay,
        };
        // What ends the run is told as its error; the line is for whoever reads the metrics later.
        let _ = self.metrics.event("skipped_update", self.step, found.to_json());
        Err(error)
    }

    /// Takes note of a skipped update, which is counted already.
    pub(crate) fn tell_skipped(
        &mut self,
        cause: Skip,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let more = match &cause {
            Skip::Overflow { scale } => json!({"cause": "overflow", "loss_scale": scale}),
            Skip::NotFinite(found) => found.to_json(),
        };
        let written = self.metrics.event("skipped_update", self.step, more);
        observer.event(&Event::SkippedUpdate {
            step: self.step,
            cause,
        });
        self.take_note_of_written(written, observer)
    }

    /// Writes the inputs of the update, and says where they are. The weights are still those that it ran with.
    fn leave_replay(&self, traces: &[Trace]) -> String {
        let output_dir = &self.config.run.output_dir;
        let number = self.step + self.skipped.total();
        // Each rank leaves its own inputs.
        let of_rank = match self.config.part.rank {
            0 => String::new(),
            rank => format!("-rank-{rank}"),
        };
        let path = output_dir.join(format!("not-finite-{number}{of_rank}.safetensors"));
        match replay_file::write(&path, traces, &self.preparer.draws, &self.unets) {
            Ok(()) => format!(
                "look into it with `fewstep debug step --config {} --inputs {} --output out.safetensors`",
                output_dir.join("config.toml").display(),
                path.display()
            ),
            Err(error) => format!("its inputs could not be kept: {error}"),
        }
    }
}
