//! How a run starts: fresh from the teacher, or where a checkpoint stopped.

use std::time::Instant;

use fewstep_data::{Crop, DataConfig, Flip, Interpolation as Filter, Loader};
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::weights::{Component, Folder};
use serde_json::json;

use crate::checkpoint::{self, Checkpoint, State};
use crate::conditioning::Conditioner;
use crate::config::{Config, Interpolation, MixedPrecision};
use crate::draw::Draws;
use crate::error::TrainError;
use crate::metrics::MetricsFile;
use crate::micro_batch::Preparer;
use crate::observer::{Observer, Start};
use crate::output::write_text;
use crate::precision::LossScaler;
use crate::step::Objective;
use crate::student::Unets;
use crate::trainer::Run;
use crate::update::Updater;
use crate::{device, identity};

impl Run {
    /// Loads everything, and tells `observer` how the run starts.
    ///
    /// # Errors
    /// Options, models, data or a checkpoint that are wrong.
    pub(crate) fn start(config: &Config, observer: &mut dyn Observer) -> Result<Self, TrainError> {
        config.validate()?;
        let device = device::resolve(&config.run)?;
        let kind = config.run.mixed_precision.kind();
        let total_steps = config.training_steps()?;
        let output_dir = &config.run.output_dir;
        std::fs::create_dir_all(output_dir)
            .map_err(|error| TrainError::io("make folder", output_dir, error))?;
        checkpoint::recover(output_dir)?;
        let resumed = checkpoint_to_resume(config)?;

        let folder = Folder::open(&config.teacher()?)?;
        let scheduler = SchedulerConfig::load(&folder.path().join("scheduler"))?;
        let schedule = NoiseSchedule::new(&scheduler)?;
        let objective = Objective::new(&schedule, &config.distillation, device)?;
        let teacher = folder.component("unet")?;
        let unets = match &resumed {
            None => Unets::from_teacher(&teacher, config, kind, device)?,
            Some((checkpoint, _)) => {
                let student = Component::open(&checkpoint.student())?;
                let target = Component::open(&checkpoint.target())?;
                Unets::from_checkpoint(&teacher, &student, &target, config, kind, device)?
            }
        };
        let scaler = (config.run.mixed_precision == MixedPrecision::Fp16).then(LossScaler::default);
        let mut updater = Updater::new(&unets.student, config, total_steps, scaler)?;
        let loader = match &resumed {
            None => Loader::new(data_config(config))?,
            Some((checkpoint, state)) => {
                updater.optimizer.load(&checkpoint.optimizer())?;
                if updater.scaler.is_some() && state.scaler.is_some() {
                    updater.scaler.clone_from(&state.scaler);
                }
                Loader::resume(data_config(config), &state.cursor)?
            }
        };
        let preparer = Preparer {
            conditioner: Conditioner::load(&folder, config, kind, device)?,
            draws: Draws::new(config),
            device,
        };

        let step = resumed.as_ref().map_or(0, |(_, state)| state.step);
        write_text(&output_dir.join("config.toml"), &config.to_toml()?)?;
        let mut metrics = MetricsFile::open(&output_dir.join("metrics.jsonl"), step)?;
        if let Some((checkpoint, _)) = &resumed {
            metrics.event("resume", step, json!({"checkpoint": checkpoint.path}))?;
        }
        observer.started(&Start {
            device,
            resumed: resumed
                .as_ref()
                .map(|(checkpoint, state)| (state.step, checkpoint.path.clone())),
            total_steps,
            trainable: u64::try_from(unets.unet().layout().elements()).unwrap_or(0),
        });
        Ok(Run {
            config: config.clone(),
            identity: identity::of(config)?,
            scheduler,
            objective,
            unets,
            updater,
            loader,
            preparer,
            metrics,
            step,
            total_steps,
            skipped_updates: resumed.as_ref().map_or(0, |(_, state)| state.skipped_updates),
            saved_step: resumed.map(|(_, state)| state.step),
            pending: None,
            last_step_end: Instant::now(),
        })
    }
}

/// The checkpoint that the run goes on from: the one that was asked for, or else the latest of this very run.
fn checkpoint_to_resume(config: &Config) -> Result<Option<(Checkpoint, State)>, TrainError> {
    let output_dir = &config.run.output_dir;
    let wanted = config.run.resume_from_checkpoint.as_deref();
    let Some(checkpoint) = checkpoint::find(wanted.unwrap_or("latest"), output_dir)? else {
        return Ok(None);
    };
    let state = checkpoint.state()?;
    let differences = identity::differences(&state.config, &identity::of(config)?);
    if wanted.is_none() && !differences.is_empty() {
        return Err(TrainError::OtherRun {
            folder: output_dir.clone(),
            differences,
        });
    }
    Ok(Some((checkpoint, state)))
}

fn data_config(config: &Config) -> DataConfig {
    let data = &config.data;
    DataConfig {
        shards: data.train_shards_path_or_url.clone(),
        resolution: data.resolution,
        batch_size: data.train_batch_size as usize,
        num_workers: data.dataloader_num_workers as usize,
        seed: config.run.seed,
        interpolation: match data.interpolation_type {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Box => Filter::Box,
            Interpolation::Nearest => Filter::Nearest,
            Interpolation::NearestExact => Filter::NearestExact,
            Interpolation::Hamming => Filter::Hamming,
            Interpolation::Lanczos => Filter::Lanczos,
        },
        crop: if data.center_crop {
            Crop::Center
        } else {
            Crop::Random
        },
        flip: if data.random_flip {
            Flip::Random
        } else {
            Flip::Never
        },
        shuffle_window: data.shuffle_buffer_size as usize,
        ..DataConfig::default()
    }
}
