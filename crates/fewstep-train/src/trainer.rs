//! The training run. [`run`] is its table of contents; every line of it is a file of this crate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fewstep_data::Loader;
use fewstep_models::schedule::SchedulerConfig;
use libtorch_ext::catch;
use serde_json::json;
use tch::{Kind, Tensor};

use crate::checkpoint::{self, Checkpoint, State};
use crate::config::Config;
use crate::error::TrainError;
use crate::metrics::{self, MetricsFile, StepMetrics};
use crate::micro_batch::Preparer;
use crate::observer::{Ending, Event, Observer, Report};
use crate::optimizer::Gradients;
use crate::signals::Stop;
use crate::step::Objective;
use crate::student::Unets;
use crate::update::{Update, Updater};
use crate::{device, draw, ema, output};

/// Distils as `config` says, from the start or from where an earlier run stopped, until it is done or `stop`
/// is asked for.
///
/// # Errors
/// Options, models or data that are wrong, a full disk, or a student that diverged.
pub fn run(config: &Config, stop: &Stop, observer: &mut dyn Observer) -> Result<Report, TrainError> {
    let mut run = Run::start(config, observer)?;
    while run.step < run.total_steps {
        run.step(observer)?;
        if stop.is_asked() && run.step < run.total_steps {
            let checkpoint = run.checkpoint(observer)?;
            return Ok(run.report(Ending::Interrupted { checkpoint }));
        }
        if run.checkpoint_is_due() {
            run.checkpoint(observer)?;
        }
    }
    run.read_pending(observer)?;
    output::write(&run.config, &run.unets, &run.scheduler, run.step, run.samples())?;
    Ok(run.report(Ending::Finished))
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
    pub(crate) preparer: Preparer,
    pub(crate) metrics: MetricsFile,
    /// Optimiser steps done.
    pub(crate) step: u64,
    pub(crate) total_steps: u64,
    pub(crate) skipped_updates: u64,
    /// The step of the newest checkpoint.
    pub(crate) saved_step: Option<u64>,
    /// The step whose numbers are still on the device.
    pub(crate) pending: Option<Pending>,
    /// When the step before ended.
    pub(crate) last_step_end: Instant,
}

/// A step of which not all numbers have been read.
#[derive(Debug)]
pub(crate) struct Pending {
    loss: Tensor,
    grad_norm: Tensor,
    /// Everything else.
    metrics: StepMetrics,
}

impl Run {
    /// One optimiser step: gradients over all its micro-batches, one update, one move of the target.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let mut gradients = Gradients::default();
        let mut loss = Tensor::zeros([], (Kind::Float, self.preparer.device));
        let mut data_wait = Duration::ZERO;
        let micro_batches = self.config.optimizer.gradient_accumulation_steps;
        for _ in 0..micro_batches {
            let asked = Instant::now();
            let batch = self.loader.next_batch()?;
            data_wait += asked.elapsed();
            let tensors = self
                .preparer
                .prepare(&batch, &self.objective, self.unets.unet())?;
            let first = batch.sample_numbers.first().copied().unwrap_or(0);
            let output = catch(|| {
                draw::seed_dropout(&self.config, first);
                self.objective.step(&self.unets.networks(), &tensors.inputs())
            })?;
            let share = catch(|| self.updater.share(&output.loss, micro_batches))?;
            gradients.add(&share, self.unets.student.compute())?;
            loss = catch(|| loss + output.loss.detach() / f64::from(micro_batches))?;
        }
        match self.updater.apply(&self.unets.student, &gradients, self.step)? {
            Update::Applied { grad_norm, lr } => {
                if let (Some(target), Some(decay)) = (&self.unets.target, self.config.ema_decay()) {
                    ema::update(target, &self.unets.student, decay)?;
                }
                self.step += 1;
                let metrics = self.measure(lr, data_wait);
                let pending = Pending {
                    loss,
                    grad_norm,
                    metrics,
                };
                // The step before is done by now, so that reading its numbers does not wait for this one.
                let before = self.pending.replace(pending);
                before.map_or(Ok(()), |before| self.read(before, observer))
            }
            Update::Skipped { scale } => self.skipped(scale, observer),
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
        }
    }

    /// Takes note of an update that fp16 could not do.
    fn skipped(&mut self, scale: f64, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.read_pending(observer)?;
        self.skipped_updates += 1;
        self.metrics
            .event("skipped_update", self.step, json!({"loss_scale": scale}))?;
        observer.event(&Event::SkippedUpdate {
            step: self.step,
            scale,
        });
        Ok(())
    }

    /// Reads the numbers of the last step, waiting for it if need be.
    fn read_pending(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.pending
            .take()
            .map_or(Ok(()), |pending| self.read(pending, observer))
    }

    fn read(&mut self, pending: Pending, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let mut metrics = pending.metrics;
        (metrics.loss, metrics.grad_norm) = catch(|| {
            (
                pending.loss.double_value(&[]),
                pending.grad_norm.double_value(&[]),
            )
        })?;
        for (what, value) in [("loss", metrics.loss), ("gradient norm", metrics.grad_norm)] {
            if !value.is_finite() {
                let first = metrics.samples.saturating_sub(self.config.samples_per_step());
                return Err(TrainError::NotFinite {
                    what,
                    step: metrics.step,
                    value,
                    samples: (first, metrics.samples - 1),
                });
            }
        }
        self.metrics.step(&metrics)?;
        observer.step(&metrics);
        Ok(())
    }

    /// Writes a checkpoint and lets old ones go. Every step before it has its line by then, and its loss is
    /// known to be a number.
    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        self.read_pending(observer)?;
        let output_dir = &self.config.run.output_dir;
        let state = State::new(
            self.step,
            self.skipped_updates,
            self.loader.cursor().clone(),
            self.updater.scaler.clone(),
            self.identity.clone(),
        );
        let Checkpoint { path } = Checkpoint::write(output_dir, &state, &self.unets, &self.updater)?;
        if let Some(limit) = self.config.run.checkpoints_total_limit {
            checkpoint::prune(output_dir, limit)?;
        }
        self.metrics
            .event("checkpoint", self.step, json!({"path": path}))?;
        self.saved_step = Some(self.step);
        observer.event(&Event::Checkpoint {
            step: self.step,
            path: path.clone(),
        });
        Ok(path)
    }

    /// Every `checkpointing_steps`, and at the end, so that a finished run is known to be one.
    fn checkpoint_is_due(&self) -> bool {
        let every = self.config.run.checkpointing_steps;
        let reached = self.step.is_multiple_of(every) || self.step == self.total_steps;
        // After a skipped update the step is the same as before.
        every > 0 && reached && self.step > 0 && self.saved_step != Some(self.step)
    }

    fn samples(&self) -> u64 {
        self.loader.cursor().samples()
    }

    fn report(self, ending: Ending) -> Report {
        Report {
            ending,
            steps: self.step,
            samples: self.samples(),
            skipped_updates: self.skipped_updates,
            dropped: self.loader.drops().clone(),
        }
    }
}
