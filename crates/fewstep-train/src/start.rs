//! How a run starts: fresh from the teacher, or where a checkpoint stopped.

use std::time::Instant;

use fewstep_data::{Loader, Resumed as DataResumed};
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::weights::Folder;
use serde_json::json;
use tch::{Device, Kind};

use crate::checkpoint::{self, Checkpoint, State};
use crate::conditioning::Conditioner;
use crate::config::{Config, MixedPrecision};
use crate::data::data_config;
use crate::draw::Draws;
use crate::error::TrainError;
use crate::metrics::MetricsFile;
use crate::micro_batch::{Preparer, Sizes};
use crate::observer::{Event, Observer, Start};
use crate::output::write_text;
use crate::run_folder::RunFolder;
use crate::step::Objective;
use crate::student::{Architectures, Unets};
use crate::trainer::Run;
use crate::update::Updater;
use crate::{device, identity, saved};

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
        let folder = RunFolder::open(&config.run.output_dir)?;
        let resumed = resume(config)?;
        let resumed = resumed.as_ref();

        // What can be wrong cheaply comes before what loads for long.
        let (loader, data) = loader(config, resumed)?;
        if data != DataResumed::Exactly {
            observer.event(&Event::DataMoved(data.clone()));
        }
        let teacher = Folder::open(&config.teacher()?)?;
        let scheduler = SchedulerConfig::load(&teacher.path().join("scheduler"))?;
        let objective = Objective::new(&NoiseSchedule::new(&scheduler)?, &config.distillation, device)?;
        let preparer = Preparer {
            conditioner: Conditioner::load(&teacher, config, kind, device)?,
            draws: Draws::new(config),
            sizes: match config.data.use_fix_crop_and_size {
                true => Sizes::Fixed,
                false => Sizes::OfPictures,
            },
            device,
        };
        let unets = unets(&teacher, config, resumed, kind, device)?;
        let updater = updater(&unets, config, resumed, total_steps)?;

        let metrics = records(config, resumed, &data)?;
        folder.keep();
        observer.started(&Start {
            device,
            resumed: resumed.map(|from| (from.state.step, from.checkpoint.path.clone())),
            total_steps,
            trainable: u64::try_from(unets.architectures.trained().elements()).unwrap_or(0),
        });
        Ok(Run {
            config: config.clone(),
            identity: identity::of(config),
            scheduler,
            objective,
            unets,
            updater,
            loader,
            preparer,
            metrics,
            step: resumed.map_or(0, |from| from.state.step),
            total_steps,
            skipped_updates: resumed.map_or(0, |from| from.state.skipped_updates),
            saved_step: resumed.map(|from| from.state.step),
            pending: None,
            last_step_end: Instant::now(),
        })
    }
}

/// Where a run goes on.
struct Resumed {
    checkpoint: Checkpoint,
    state: State,
}

/// Finds the checkpoint to go on from: the one that was asked for, or else the latest of this very run.
fn resume(config: &Config) -> Result<Option<Resumed>, TrainError> {
    let output_dir = &config.run.output_dir;
    let wanted = config.run.resume_from_checkpoint.as_deref();
    let Some(checkpoint) = checkpoint::find(wanted.unwrap_or("latest"), output_dir)? else {
        return Ok(None);
    };
    let state = checkpoint.state()?;
    let differences = identity::differences(&state.config, &identity::of(config));
    if wanted.is_none() && !differences.is_empty() {
        return Err(TrainError::OtherRun {
            folder: output_dir.clone(),
            differences,
        });
    }
    Ok(Some(Resumed { checkpoint, state }))
}

fn loader(config: &Config, resumed: Option<&Resumed>) -> Result<(Loader, DataResumed), TrainError> {
    let data = data_config(config);
    Ok(match resumed {
        None => (Loader::new(data)?, DataResumed::Exactly),
        Some(from) => Loader::resume(data, &from.state.cursor)?,
    })
}

fn unets(
    folder: &Folder,
    config: &Config,
    resumed: Option<&Resumed>,
    kind: Kind,
    device: Device,
) -> Result<Unets, TrainError> {
    let teacher = folder.component("unet")?;
    let Some(Resumed { checkpoint, .. }) = resumed else {
        return Unets::from_teacher(&teacher, config, kind, device);
    };
    let architectures = Architectures::read(&teacher, config)?;
    let student = saved::load_student(&checkpoint.path, &architectures, device)?;
    let target = match config.ema_decay() {
        None => None,
        Some(_) => Some(saved::load_target(&checkpoint.path, &architectures, device)?),
    };
    Unets::new(architectures, &teacher, config, (student, target), kind)
}

fn updater(
    unets: &Unets,
    config: &Config,
    resumed: Option<&Resumed>,
    total_steps: u64,
) -> Result<Updater, TrainError> {
    let stored = resumed.and_then(|from| from.state.scaler.clone());
    let scaler = (config.run.mixed_precision == MixedPrecision::Fp16).then(|| stored.unwrap_or_default());
    let mut updater = Updater::new(&unets.student, config, total_steps, scaler)?;
    if let Some(from) = resumed {
        updater.optimizer.load(&from.checkpoint.optimizer())?;
    }
    Ok(updater)
}

/// Writes the resolved options, and opens the metrics to go on after the checkpoint.
fn records(
    config: &Config,
    resumed: Option<&Resumed>,
    data: &DataResumed,
) -> Result<MetricsFile, TrainError> {
    let output_dir = &config.run.output_dir;
    write_text(&output_dir.join("config.toml"), &config.to_toml()?)?;
    let step = resumed.map_or(0, |from| from.state.step);
    let mut metrics = MetricsFile::open(&output_dir.join("metrics.jsonl"), step)?;
    if let Some(from) = resumed {
        let more = json!({"checkpoint": from.checkpoint.path, "data": data});
        metrics.event("resume", step, more)?;
    }
    Ok(metrics)
}
