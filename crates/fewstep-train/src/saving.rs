//! When a run writes its checkpoints, and what it does when that fails.

use std::path::PathBuf;

use serde_json::json;

use crate::checkpoint::State;
use crate::config::OnSaveError;
use crate::error::{Left, TrainError};
use crate::observer::{Event, Observer};
use crate::ranks::RanksError;
use crate::saved::Trained;
use crate::saver::{Job, Place, Saved, save_in_line};
use crate::signals::Stop;
use crate::snapshot::Snapshot;
use crate::trainer::Run;

/// What came of a save.
enum Outcome {
    Saved(PathBuf),
    Failed(TrainError),
}

impl Run {
    /// Takes note of a wish for a checkpoint. Several ranks know of it after the same step.
    pub(crate) fn take_note_of_wish(&mut self, stop: &Stop) {
        self.is_to_save |= match &mut self.team {
            None => stop.take_checkpoint_wish(),
            Some(team) => std::mem::take(&mut team.is_to_save),
        };
    }

    /// Begins a checkpoint every `checkpointing_steps`, or when one is asked for, but for the last step, after which [`Run::last_checkpoint`]
    /// writes one. Every step before it has its line by then, and its numbers are known to be finite.
    pub(crate) fn checkpoint_if_due(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if !self.is_due() {
            return Ok(());
        }
        self.read_pending(observer)?;
        // The last update may have been skipped.
        if !self.is_due() {
            return Ok(());
        }
        let earlier = self.saver.wait();
        self.take_note_of(earlier, observer)?;
        self.tried_step = Some(self.step);
        self.is_to_save = false;
        self.collect_places()?;
        let Some(tensors) = self.snapshot()? else {
            return Ok(());
        };
        let saved = self.saver.save(self.job(), &tensors);
        self.take_note_of(saved, observer)
    }

    /// Takes note of a checkpoint that was written beside the steps.
    pub(crate) fn take_note_of_ended_save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let ended = self.saver.ended();
        self.take_note_of(ended, observer)
    }

    /// Writes a checkpoint of this step before anything else, and returns its folder.
    pub(crate) fn checkpoint_now(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        self.read_pending(observer)?;
        self.collect_places()?;
        let Some(tensors) = self.snapshot()? else {
            return Ok(self
                .config
                .run
                .output_dir
                .join(format!("checkpoint-{}", self.step)));
        };
        if let Some(earlier) = self.saver.wait() {
            // This one is tried in any case.
            let step = earlier.step;
            if let Outcome::Failed(error) = self.record(earlier, observer)? {
                tell_not_saved(step, &error, observer);
            }
        }
        if let Some((step, path)) = &self.newest
            && *step == self.step
        {
            return Ok(path.clone());
        }
        let saved = save_in_line(self.job(), &tensors);
        match self.record(saved, observer)? {
            Outcome::Saved(path) => Ok(path),
            Outcome::Failed(error) => Err(self.not_saved(self.step, error)),
        }
    }

    /// Writes the checkpoint by which a finished run is known to be one, unless there are to be none.
    pub(crate) fn last_checkpoint(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        match self.config.run.checkpointing_steps {
            0 => self.collect_places(),
            _ => self.checkpoint_now(observer).map(|_| ()),
        }
    }

    /// Collects from all ranks how far they have read their data. Only rank 0 waits for it.
    fn collect_places(&mut self) -> Result<(), TrainError> {
        self.places = match &mut self.team {
            Some(team) => team.ranks.places(&self.place)?,
            None => vec![self.place.clone()],
        };
        Ok(())
    }

    /// The tensors of a checkpoint, for whoever writes it. Ranks that have shares hand them in.
    fn snapshot(&mut self) -> Result<Option<Snapshot>, TrainError> {
        let (unets, optimizer) = (&self.unets, &self.updater.optimizer);
        match &mut self.team {
            Some(team) if optimizer.share().is_part() => team.snapshot(unets, optimizer),
            _ => Ok(self.leads().then(|| Snapshot::shared(unets, optimizer))),
        }
    }

    /// What is trained, for whoever writes it. Ranks that have shares hand them in.
    pub(crate) fn trained(&mut self) -> Result<Option<Trained>, TrainError> {
        let (unets, optimizer) = (&self.unets, &self.updater.optimizer);
        match &mut self.team {
            Some(team) if optimizer.share().is_part() => team.trained(unets, optimizer),
            _ => Ok(self.leads().then(|| Trained::of(unets))),
        }
    }

    /// Before the run ends with `error`: where data gave out, what has been done so far is sound and is kept, by all ranks
    /// together. Returns the error to end with.
    pub(crate) fn keep(&mut self, error: TrainError, observer: &mut dyn Observer) -> TrainError {
        let others = matches!(error, TrainError::Ranks(RanksError::DataGaveOut));
        if !others && !matches!(error, TrainError::Data(_)) {
            return error;
        }
        if self.step > 0
            && let Err(failed) = self.last_checkpoint(observer)
        {
            tell_not_saved(self.step, &failed, observer);
        }
        let Some(team) = &self.team else { return error };
        // Whoever ends first is followed by the others soon: not before everything is written.
        match team.ranks.wait_for_first() {
            Ok(()) if others => team.ranks.whose_data_gave_out().into(),
            _ => error,
        }
    }

    fn is_due(&self) -> bool {
        let every = self.config.run.checkpointing_steps;
        // After a skipped update the step is the same as before.
        (self.is_to_save || every > 0 && self.step.is_multiple_of(every))
            && self.step > 0
            && self.step != self.total_steps
            && self.tried_step != Some(self.step)
    }

    fn job(&self) -> Job {
        Job {
            output_dir: self.config.run.output_dir.clone(),
            state: State {
                step: self.step,
                skipped: self.skipped.clone(),
                cursor: self.places.first().unwrap_or(&self.place).clone(),
                other_cursors: self.places.iter().skip(1).cloned().collect(),
                scaler: self.updater.scaler.clone(),
                config: self.identity.clone(),
            },
            limit: self.config.run.checkpoints_total_limit,
            metrics: self.metrics.handle(),
        }
    }

    /// Takes note of a save that has ended: one that failed ends the run if the options say so.
    fn take_note_of(&mut self, saved: Option<Saved>, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(saved) = saved else { return Ok(()) };
        let step = saved.step;
        match (self.record(saved, observer)?, self.config.run.on_save_error) {
            (Outcome::Saved(_), _) => Ok(()),
            (Outcome::Failed(error), OnSaveError::Stop) => Err(self.not_saved(step, error)),
            (Outcome::Failed(error), OnSaveError::Continue) => {
                tell_not_saved(step, &error, observer);
                Ok(())
            }
        }
    }

    /// Takes note of what came of a save, and tells of one that went well. The error is of the line in metrics.jsonl.
    fn record(&mut self, saved: Saved, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let Saved { step, result, .. } = saved;
        let written = match &result {
            Ok(path) => {
                self.newest = Some((step, path.clone()));
                let more = json!({
                    "path": path,
                    "waited_s": saved.waited.as_secs_f64(),
                    "took_s": saved.took.as_secs_f64(),
                    "background": saved.place == Place::Background,
                });
                self.metrics.event("checkpoint", step, more)
            }
            Err(error) => {
                let more = json!({"reason": error.to_string()});
                self.metrics.event("checkpoint_failed", step, more)
            }
        };
        if let Ok(path) = &result {
            observer.event(&Event::Checkpoint {
                step,
                path: path.clone(),
            });
        }
        self.take_note_of_written(written, observer)?;
        Ok(match result {
            Ok(path) => Outcome::Saved(path),
            Err(error) => Outcome::Failed(error),
        })
    }

    fn not_saved(&self, step: u64, source: TrainError) -> TrainError {
        self.nothing_saved(format!("the checkpoint of step {step}"), source)
    }

    /// The error of something that could not be saved and ends the run.
    pub(crate) fn nothing_saved(&self, what: String, source: TrainError) -> TrainError {
        TrainError::NotSaved {
            what,
            source: Box::new(source),
            left: match &self.newest {
                Some((_, path)) => Left::Checkpoint(path.clone()),
                None => Left::Nothing,
            },
        }
    }
}

/// Tells of a save that failed, where the run does not end with it.
fn tell_not_saved(step: u64, error: &TrainError, observer: &mut dyn Observer) {
    observer.event(&Event::NotSaved {
        step,
        reason: error.to_string(),
    });
}
