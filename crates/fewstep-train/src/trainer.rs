//! The training run. [`run`] is its table of contents; every line of it is a file of this crate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fewstep_data::{Batch, Cursor, Drops, Loader};
use fewstep_models::schedule::SchedulerConfig;
use libtorch_ext::{catch, span};
use tch::{Kind, Tensor};

use crate::config::Config;
use crate::ema::Average;
use crate::error::{Left, TrainError};
use crate::finished::Finished;
use crate::gradients::Gradients;
use crate::lock::RunLock;
use crate::metrics::{self, MetricsFile, StepMetrics};
use crate::micro_batch::Preparer;
use crate::not_finite::Trace;
use crate::observer::{Ending, Event, Observer, Report, Skip};
use crate::profile::Profile;
use crate::profile_table::STEP;
use crate::ranks::{Numbers, Ranks, RanksError, Team};
use crate::saver::Saver;
use crate::signals::Stop;
use crate::skipped::Skipped;
use crate::start::Opened;
use crate::step::Objective;
use crate::student::Unets;
use crate::trackers::{End, Trackers};
use crate::update::{Update, Updater};
use crate::validating::Painting;
use crate::validation::Validation;
use crate::{cache, device, draw, out_of_memory, output};

/// Distils as `config` says, from the start or from where an earlier run stopped, until it is done or `stop`
/// is asked for.
///
/// # Errors
/// Options, models or data that are wrong, another run in the folder, a full disk, or a student that diverged.
pub fn run(config: &Config, stop: &Stop, observer: &mut dyn Observer) -> Result<Report, TrainError> {
    train(config, None, stop, observer).map_err(|error| out_of_memory::explain(error, config))
}

/// Does this rank's part of a run: every rank is given the same options. Rank 0 writes what there is to write.
///
/// # Errors
/// As [`run`], and ranks that differ or are gone. What ends this rank is told to the others.
pub fn run_as(
    ranks: Ranks,
    config: &Config,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Report, TrainError> {
    let mut config = config.clone();
    config.part = ranks.part();
    config.others_here = ranks.seat().local_ranks.saturating_sub(1);
    config.run.device = device::of_rank(&config.run, ranks.seat().local_rank)?;
    let herald = ranks.herald()?;
    train(&config, Some(ranks), stop, observer)
        .map_err(|error| out_of_memory::explain(error, &config))
        .inspect_err(|error| herald.tell(error))
}

fn train(
    config: &Config,
    ranks: Option<Ranks>,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Report, TrainError> {
    let mut run = match Run::open(config, ranks, stop, observer)? {
        Opened::Finished(report) => return Ok(report),
        Opened::Run(run) => run,
    };
    match run.go_on(stop, observer) {
        Ok(ending) => run.report(ending, observer),
        Err(error) => Err(run.keep(error, observer)),
    }
}

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) config: Config,
    /// The options that make this run what it is.
    pub(crate) identity: BTreeMap<String, String>,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) objective: Objective,
    pub(crate) unets: Unets,
    pub(crate) updater: Updater,
    pub(crate) loader: Loader,
    /// The place in the data after the last update. The loader may be within the next one.
    pub(crate) place: Cursor,
    /// Those of all ranks, as rank 0 last collected them.
    pub(crate) places: Vec<Cursor>,
    pub(crate) preparer: Preparer,
    /// What it paints to be looked at, if it does.
    pub(crate) validation: Option<Validation>,
    pub(crate) metrics: MetricsFile,
    pub(crate) trackers: Trackers,
    /// Whether the last line could not be written.
    pub(crate) metrics_fail: bool,
    /// Optimiser steps done, with the pending one.
    pub(crate) step: u64,
    pub(crate) total_steps: u64,
    pub(crate) skipped: Skipped,
    /// The step after which a checkpoint was last written or tried.
    pub(crate) tried_step: Option<u64>,
    /// Whether a checkpoint is asked for.
    pub(crate) is_to_save: bool,
    /// The newest checkpoint that is there.
    pub(crate) newest: Option<(u64, PathBuf)>,
    /// The step whose numbers are still on the device.
    pub(crate) pending: Option<Pending>,
    /// When the step before ended.
    pub(crate) last_step_end: Instant,
    pub(crate) profile: Profile,
    /// Why this rank has no more data, until the others know.
    pub(crate) gave_out: Option<TrainError>,
    /// The other ranks, where there are some.
    pub(crate) team: Option<Team>,
    /// Dropped before the lock: it may still write.
    pub(crate) saver: Saver,
    pub(crate) _lock: Option<RunLock>,
}

/// An update that the device was told to do if its numbers are finite, which nobody has read yet.
#[derive(Debug)]
pub(crate) struct Pending {
    loss: Tensor,
    grad_norm: Tensor,
    /// What all ranks know, where there are several.
    numbers: Option<Numbers>,
    /// The place in the data before it.
    before: Cursor,
    /// Everything else.
    metrics: StepMetrics,
    traces: Vec<Trace>,
}

/// What the passes over all micro-batches of an update give.
struct Passes {
    gradients: Gradients,
    /// Their mean, over all ranks.
    loss: Tensor,
    numbers: Option<Numbers>,
    traces: Vec<Trace>,
    data_wait: Duration,
}

impl Run {
    /// All steps that are left, and what is to be written then.
    fn go_on(&mut self, stop: &Stop, observer: &mut dyn Observer) -> Result<Ending, TrainError> {
        while !self.is_done(observer)? {
            // First, since one that stopped after a step may not have come to it.
            if self.validate_if_due(stop, observer)? == Painting::Over {
                self.profiled_step(observer)?;
            }
            self.take_note_of_ended_save(observer)?;
            if self.is_to_stop(stop) && !self.is_done(observer)? {
                let checkpoint = self.checkpoint_now(observer)?;
                return Ok(Ending::Interrupted { checkpoint });
            }
            self.take_note_of_wish(stop);
            self.checkpoint_if_due(observer)?;
        }
        self.finish(stop, observer)?;
        Ok(Ending::Finished)
    }

    /// Whether all steps are done; the last one is read for that, since it may have been skipped.
    fn is_done(&mut self, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        if self.step == self.total_steps {
            self.read_pending(observer)?;
        }
        Ok(self.step >= self.total_steps)
    }

    /// A step, recorded if that is wanted.
    fn profiled_step(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.profile.before_step()?;
        {
            let _span = span(STEP);
            self.step(observer)?;
        }
        if let Some(profiled) = self.profile.after_step()? {
            observer.event(&Event::Profiled(Box::new(profiled)));
            // What came of it took a while, which is no step's.
            self.last_step_end = Instant::now();
        }
        Ok(())
    }

    /// Whether the run is asked to stop: several ranks stop after the same step.
    fn is_to_stop(&self, stop: &Stop) -> bool {
        self.team.as_ref().map_or(stop.is_asked(), |team| team.is_to_stop)
    }

    /// One optimiser step: gradients over all its micro-batches, one update, one move of the target.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let passes = self.passes()?;
        let before = std::mem::replace(&mut self.place, self.loader.cursor().clone());
        self.take_note_of_cache(observer);
        // Only now: the device has been given work meanwhile, and what became of the step before decides the number
        // and the learning rate of this one.
        self.read_pending(observer)?;
        let averaged = self.unets.target.as_ref().zip(self.config.ema_decay());
        let average = averaged.map(|(target, mu)| Average { target, mu });
        let updating = span(c"update");
        let update = self.updater.apply(
            &self.unets.student,
            average.as_ref(),
            passes.gradients,
            &passes.loss,
            self.step,
        )?;
        drop(updating);
        if let (Some(team), Update::Launched { .. }) = (&mut self.team, &update) {
            team.spread(&self.unets, &self.updater.optimizer)?;
        }
        match update {
            Update::Launched { grad_norm, lr, .. } => {
                self.step += 1;
                let metrics = self.measure(lr, passes.data_wait);
                self.pending = Some(Pending {
                    loss: passes.loss,
                    grad_norm,
                    numbers: passes.numbers,
                    before,
                    metrics,
                    traces: passes.traces,
                });
                Ok(())
            }
            Update::Overflow { scale } => {
                self.skipped.overflow += 1;
                self.tell_skipped(Skip::Overflow { scale }, observer)
            }
        }
    }

    /// Tells what the cache met with.
    fn take_note_of_cache(&self, observer: &mut dyn Observer) {
        for note in cache::notes(self.preparer.conditioner.cache()) {
            observer.event(&Event::CacheNote(note));
        }
    }

    /// Loss and gradients over the micro-batches of one update.
    fn passes(&mut self) -> Result<Passes, TrainError> {
        let micro_batches = self.config.optimizer.gradient_accumulation_steps;
        let shares = f64::from(micro_batches) * self.config.part.ranks as f64;
        if let Some(team) = &mut self.team {
            team.reducer.begin()?;
        }
        let mut passes = Passes {
            gradients: Gradients::default(),
            loss: Tensor::zeros([], (Kind::Float, self.preparer.device)),
            numbers: None,
            traces: Vec::new(),
            data_wait: Duration::ZERO,
        };
        for number in 1..=micro_batches {
            let asked = Instant::now();
            let waiting = span(c"wait for data");
            let batch = self.next_batch()?;
            drop(waiting);
            passes.data_wait += asked.elapsed();
            let Some(batch) = batch else {
                // Not a number: nobody does this update.
                passes.loss = catch(|| passes.loss * f64::NAN)?;
                break;
            };
            let tensors = self
                .preparer
                .prepare(&batch, &self.objective, self.unets.unet())?;
            let first = batch.sample_numbers.first().copied().unwrap_or(0);
            let output = catch(|| {
                draw::seed_dropout(&self.config, first);
                self.objective.step(&self.unets.networks(), &tensors.inputs())
            })?;
            let share = catch(|| self.updater.share(&output.loss, shares))?;
            let backward = span(c"backward");
            let weights = self.unets.student.compute();
            match &mut self.team {
                None => passes.gradients.add(&share, weights)?,
                Some(team) => team.add(&share, weights, number == micro_batches)?,
            }
            drop(backward);
            passes.loss = catch(|| passes.loss + output.loss.detach() / f64::from(micro_batches))?;
            let trace = Trace::new(tensors, batch.sample_numbers, batch.keys, &output)?;
            passes.traces.push(trace);
        }
        if let Some(team) = &mut self.team {
            let _span = span(c"wait for ranks");
            if self.gave_out.is_some() {
                team.add_nothing()?;
            }
            let (loss, numbers) = team.reduce(&passes.loss, self.gave_out.is_some(), self.loader.drops())?;
            (passes.loss, passes.numbers) = (loss, Some(numbers));
            passes.gradients = team.reducer.gradients();
        }
        Ok(passes)
    }

    /// The next batch. None where this rank's data have given out and the others have still to hear of it.
    fn next_batch(&mut self) -> Result<Option<Batch>, TrainError> {
        if self.gave_out.is_some() {
            return Ok(None);
        }
        match self.loader.next_batch() {
            Ok(batch) => Ok(Some(batch)),
            Err(error) if self.team.is_some() => {
                self.gave_out = Some(error.into());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a step without waiting for the device.
    fn measure(&mut self, lr: f64, data_wait: Duration) -> StepMetrics {
        let elapsed = self.last_step_end.elapsed().as_secs_f64();
        self.last_step_end = Instant::now();
        StepMetrics {
            step: self.step,
            samples: self.samples(),
            time: metrics::now(),
            loss: f64::NAN,
            lr,
            grad_norm: f64::NAN,
            samples_per_s: self.config.samples_per_step() as f64 / elapsed.max(1e-9),
            data_wait_s: data_wait.as_secs_f64(),
            memory_gb: device::memory_in_use(self.preparer.device).map(|bytes| bytes as f64 * 1e-9),
            dropped: metrics::dropped_by_cause(self.loader.drops()),
            skipped: metrics::skipped_by_cause(&self.skipped),
        }
    }

    /// Reads the numbers of the last update, waiting for it if need be. One whose numbers are not finite changed
    /// nothing, and was no step.
    pub(crate) fn read_pending(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let mut metrics = pending.metrics;
        if let (Some(team), Some(numbers)) = (&mut self.team, &pending.numbers) {
            let known = numbers.read()?;
            if known.gave_out {
                self.step -= 1;
                self.place = pending.before;
                return Err(self.gave_out.take().unwrap_or(RanksError::DataGaveOut.into()));
            }
            (team.is_to_stop, metrics.dropped) = (known.stop, known.dropped);
            team.is_to_save |= known.save;
        }
        let numbers = catch(|| {
            (
                pending.loss.double_value(&[]),
                pending.grad_norm.double_value(&[]),
            )
        })?;
        if !numbers.0.is_finite() || !numbers.1.is_finite() {
            self.step -= 1;
            return self.not_finite(numbers, &pending.traces, observer);
        }
        (metrics.loss, metrics.grad_norm) = numbers;
        let written = self.metrics.step(&metrics);
        self.take_note_of_written(written, observer)?;
        self.trackers.step(&metrics, observer);
        observer.step(&metrics);
        Ok(())
    }

    /// Samples seen, those of skipped updates too.
    pub(crate) fn samples(&self) -> u64 {
        self.loader.cursor().samples()
    }

    /// Writes what the run leaves. A checkpoint that cannot be written does not keep the results from being tried.
    fn finish(&mut self, stop: &Stop, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let checkpoint = self.last_checkpoint(observer);
        self.validate_if_due(stop, observer)?;
        let Some(trained) = self.trained()? else {
            return checkpoint;
        };
        let finished = Finished {
            steps: self.step,
            samples: self.samples(),
            skipped: self.skipped.clone(),
            dropped: self.drops(),
            config: self.identity.clone(),
        };
        output::write(&self.config, &trained, &self.scheduler, &finished)
            .map_err(|error| self.nothing_saved("the results".to_owned(), error))?;
        checkpoint.map_err(|error| match error {
            TrainError::NotSaved { what, source, .. } => TrainError::NotSaved {
                what,
                source,
                left: Left::Results(self.config.run.output_dir.clone()),
            },
            other => other,
        })
    }

    fn report(mut self, ending: Ending, observer: &mut dyn Observer) -> Result<Report, TrainError> {
        self.metrics.write_out()?;
        let end = match &ending {
            Ending::Interrupted { .. } => End::Interrupted,
            _ => End::Finished,
        };
        self.trackers.close(end, observer);
        if let Some(team) = self.team.take() {
            team.ranks.leave()?;
        }
        Ok(Report {
            ending,
            steps: self.step,
            samples: self.samples(),
            skipped: self.skipped.clone(),
            dropped: self.drops(),
        })
    }

    /// What was left out of the data: by all ranks, where rank 0 has collected it.
    fn drops(&self) -> Drops {
        match Cursor::of_all(&self.places) {
            Some(all) if self.config.part.ranks > 1 => all.drops().clone(),
            _ => self.loader.drops().clone(),
        }
    }

    /// Whether this process writes what the run leaves: rank 0 does, and one that is alone.
    pub(crate) fn leads(&self) -> bool {
        self.config.part.rank == 0
    }

    /// Takes note of whether a line of metrics.jsonl could be written.
    pub(crate) fn take_note_of_written(
        &mut self,
        written: Result<(), TrainError>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        use crate::config::OnSaveError;
        let failed_before = std::mem::replace(&mut self.metrics_fail, written.is_err());
        match written {
            Err(error) if self.config.run.on_save_error == OnSaveError::Continue => {
                if !failed_before {
                    observer.event(&Event::MetricsNotWritten {
                        reason: error.to_string(),
                    });
                }
                Ok(())
            }
            other => other,
        }
    }
}
