//! How a run starts: fresh from the teacher, or where a checkpoint stopped.

use std::time::Instant;

use fewstep_data::{Prepared, Resumed as DataResumed};
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::unet::Recomputed;
use fewstep_models::weights::Folder;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::beginning::{self, Beginning};
use crate::cache::Cache;
use crate::checkpoint::{Checkpoint, Found, State};
use crate::conditioning::Conditioner;
use crate::config::{Config, GradientCheckpointing, MixedPrecision, Zero};
use crate::data::data_config;
use crate::draw::Draws;
use crate::error::TrainError;
use crate::metrics::{self, MetricsFile};
use crate::micro_batch::{Preparer, Sizes};
use crate::observer::{Event, Observer, Report, Start};
use crate::out_of_memory::TooMuch;
use crate::output::write_text;
use crate::profile::Profile;
use crate::ranks::{Entered, Ranks, Team};
use crate::run_folder::RunFolder;
use crate::saver::Saver;
use crate::share::Share;
use crate::signals::Stop;
use crate::skipped::Skipped;
use crate::step::Objective;
use crate::student::{Architectures, Unets};
use crate::trackers::Trackers;
use crate::trainer::Run;
use crate::update::Updater;
use crate::validation::{self, Validation};
use crate::{device, fill, identity, memory, plan, saved};

/// What a run's folder holds when a run is started in it.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The very run that is asked for, and it is done.
    Finished(Report),
    /// A run to begin or to go on with.
    Run(Box<Run>),
}

impl Run {
    /// Loads everything, and tells `observer` how the run starts.
    ///
    /// # Errors
    /// Options, models, data or a checkpoint that are wrong, or another run that is at work in the folder.
    pub(crate) fn open(
        config: &Config,
        mut ranks: Option<Ranks>,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<Opened, TrainError> {
        config.validate()?;
        if config.optimizer.zero == Zero::One && !config.is_sharded() {
            observer.event(&Event::NothingToShare);
        }
        let device = device::resolve(&config.run)?;
        let kind = config.run.mixed_precision.kind();
        let total_steps = config.training_steps()?;
        if let Some(ranks) = &mut ranks {
            ranks.begin(config, device)?;
        }
        let (folder, checkpoint, entered) = match config.part.rank {
            0 => enter(config, total_steps, observer)?,
            _ => (None, None, None),
        };
        let entered = match (&ranks, entered) {
            (Some(ranks), entered) => ranks.enter(entered.as_ref())?,
            (None, entered) => entered.unwrap_or(Entered::Start),
        };
        let state = match entered.report() {
            Ok(report) => {
                ranks.map_or(Ok(()), Ranks::leave)?;
                return Ok(Opened::Finished(report));
            }
            Err(state) => state.map(|state| *state),
        };
        let state = state.as_ref();

        // What can be wrong cheaply comes before what loads for long.
        let (data_ahead, data) = prepare(config, state)?;
        if data != DataResumed::Exactly {
            observer.event(&Event::DataMoved(data.clone()));
        }
        let teacher = Folder::open(&config.teacher()?)?;
        let chosen = outlook(config, device, observer)?;
        let scheduler = SchedulerConfig::load(&teacher.part("scheduler")?)?;
        let objective = Objective::new(&NoiseSchedule::new(&scheduler)?, &config.distillation, device)?;
        let painting = validation::Settings::new(config, &scheduler)?;
        let preparer = Preparer {
            conditioner: Conditioner::load(&teacher, config, kind, device)?,
            draws: Draws::new(config),
            sizes: match config.data.use_fix_crop_and_size {
                true => Sizes::Fixed,
                false => Sizes::OfPictures,
            },
            device,
        };
        let cache = preparer.conditioner.cache();
        let samples = data_ahead.samples();
        let loader = data_ahead.start(cache.map(Cache::latents))?;
        if let Some(cache) = cache {
            observer.event(&Event::Cache(fill::Estimate::new(
                config,
                cache,
                &preparer.conditioner,
                samples,
            )));
        }
        let mut unets = unets(&teacher, config, checkpoint.as_ref(), kind, device)?;
        if let Some(recomputed) = chosen {
            unets.recompute(recomputed);
        }
        if let Some(ranks) = &mut ranks {
            ranks.share_weights(&unets)?;
        }
        // What is let go here makes room for the optimiser's state.
        unets.keep(&Share::of(unets.architectures.trained(), config));
        let (updater, stored) = updater(&unets, config, (state, checkpoint.as_ref()), total_steps)?;
        if let (Some(ranks), Some(_)) = (&mut ranks, state) {
            ranks.share_state(&updater.optimizer, &stored)?;
        }
        drop(stored);
        let validation = validation_of(painting, config, ranks.as_ref(), state)?;
        let team = ranks.map(|ranks| Team::new(ranks, &unets, stop)).transpose()?;

        let metrics = match &folder {
            Some(_) => records(config, state.zip(checkpoint.as_ref()), &data)?,
            None => MetricsFile::nowhere(),
        };
        let trackers = match &folder {
            Some(_) => Trackers::open(config, state.map(|state| state.step), observer),
            None => Trackers::default(),
        };
        let lock = folder.and_then(RunFolder::keep);
        let newest = state.zip(checkpoint).map(|(state, from)| (state.step, from.path));
        observer.started(&Start {
            device,
            ranks: config.part.ranks,
            resumed: newest.clone(),
            total_steps,
            trainable: u64::try_from(unets.architectures.trained().elements()).unwrap_or(0),
        });
        Ok(Opened::Run(Box::new(Run {
            config: config.clone(),
            identity: identity::of(config),
            scheduler,
            objective,
            unets,
            updater,
            place: loader.cursor().clone(),
            places: Vec::new(),
            loader,
            preparer,
            validation,
            metrics,
            trackers,
            metrics_fail: false,
            step: state.map_or(0, |state| state.step),
            total_steps,
            skipped: state.map_or(Skipped::default(), |state| state.skipped.clone()),
            tried_step: state.map(|state| state.step),
            is_to_save: false,
            newest,
            pending: None,
            last_step_end: Instant::now(),
            profile: Profile::new(config, device),
            gave_out: None,
            team,
            saver: Saver::new(memory::available),
            _lock: lock,
        })))
    }
}

/// What the run paints. All ranks learn from rank 0 what an earlier process has painted already.
fn validation_of(
    painting: Option<validation::Settings>,
    config: &Config,
    ranks: Option<&Ranks>,
    state: Option<&State>,
) -> Result<Option<Validation>, TrainError> {
    let (leads, step) = (config.part.rank == 0, state.map(|state| state.step));
    if leads {
        validation::remove_after(&config.run.output_dir, step.unwrap_or(0));
    }
    let Some(settings) = painting else { return Ok(None) };
    let (mut validation, mut known) = Validation::new(settings, leads, step);
    if let Some(ranks) = ranks {
        known = ranks.tell("painted", leads.then_some(&known))?;
    }
    validation.take_note(known, step);
    Ok(Some(validation))
}

/// The run's folder, unless the run is done; the checkpoint to go on from; and what other ranks must know of them.
type Looked = (Option<RunFolder>, Option<Checkpoint>, Option<Entered>);

/// What rank 0, or a process that is alone, finds in the run's folder.
fn enter(config: &Config, total_steps: u64, observer: &mut dyn Observer) -> Result<Looked, TrainError> {
    let folder = RunFolder::open(&config.run.output_dir, observer)?;
    Ok(match beginning::look(config, total_steps)? {
        Beginning::Finished(report) => (None, None, Some(Entered::finished(&report))),
        Beginning::Start => (Some(folder), None, Some(Entered::Start)),
        Beginning::GoOn(found) => {
            let Found {
                checkpoint, state, ..
            } = beginning::set_damaged_aside(*found, observer)?;
            (
                Some(folder),
                Some(checkpoint),
                Some(Entered::GoOn(Box::new(state))),
            )
        }
    })
}

/// Says whether the memory that there is will do, and what is computed again, if that is to be chosen.
fn outlook(
    config: &Config,
    device: Device,
    observer: &mut dyn Observer,
) -> Result<Option<Recomputed>, TrainError> {
    let choosing = config.run.gradient_checkpointing == GradientCheckpointing::Auto;
    let (plan, recomputed) = match plan::choose(config, device, plan::capacity(device, config)) {
        Ok(both) => both,
        Err(error) if choosing => return Err(error),
        // What is wrong with the model, its loading will say.
        Err(_) => return Ok(None),
    };
    if choosing {
        observer.event(&Event::Checkpointing(plan.checkpointed));
    }
    if let Some(too_much) = TooMuch::of(&plan, config) {
        observer.event(&Event::TooMuch(Box::new(too_much)));
    }
    Ok(choosing.then_some(recomputed))
}

fn prepare(config: &Config, state: Option<&State>) -> Result<(Prepared, DataResumed), TrainError> {
    let data = data_config(config);
    Ok(match state {
        None => (Prepared::new(data)?, DataResumed::Exactly),
        Some(state) => Prepared::resume(data, &state.cursor_of(config.part))?,
    })
}

fn unets(
    folder: &Folder,
    config: &Config,
    checkpoint: Option<&Checkpoint>,
    kind: Kind,
    device: Device,
) -> Result<Unets, TrainError> {
    let teacher = folder.component("unet")?;
    let Some(checkpoint) = checkpoint else {
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

/// The optimiser, and its whole state as a checkpoint has it, for ranks that have shares of it.
fn updater(
    unets: &Unets,
    config: &Config,
    (state, checkpoint): (Option<&State>, Option<&Checkpoint>),
    total_steps: u64,
) -> Result<(Updater, Vec<Tensor>), TrainError> {
    let stored = state.and_then(|state| state.scaler.clone());
    let scaler = (config.run.mixed_precision == MixedPrecision::Fp16).then(|| stored.unwrap_or_default());
    let mut updater = Updater::new(&unets.student, config, total_steps, scaler)?;
    let stored = match checkpoint {
        Some(checkpoint) => updater.optimizer.load(&checkpoint.optimizer())?,
        None => Vec::new(),
    };
    Ok((updater, stored))
}

/// Writes the resolved options, and opens the metrics to go on after the checkpoint.
fn records(
    config: &Config,
    resumed: Option<(&State, &Checkpoint)>,
    data: &DataResumed,
) -> Result<MetricsFile, TrainError> {
    let output_dir = &config.run.output_dir;
    write_text(&output_dir.join("config.toml"), &config.to_toml()?)?;
    let step = resumed.map_or(0, |(state, _)| state.step);
    let mut metrics = MetricsFile::open(&output_dir.join(metrics::NAME), step)?;
    if let Some((_, checkpoint)) = resumed {
        let more = json!({"checkpoint": checkpoint.path, "data": data});
        metrics.event("resume", step, more)?;
    }
    Ok(metrics)
}
