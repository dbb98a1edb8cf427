//! What a finished run leaves: the student as diffusers loads it, its moving average, the scheduler that fits
//! them, a model card, and the note that the run is finished.

use std::path::Path;

use fewstep_models::schedule::{SchedulerConfig, lcm_scheduler_config};
use fewstep_models::weights::{ModelError, write_atomic, write_json_atomic};

use crate::config::Config;
use crate::error::TrainError;
use crate::finished::Finished;
use crate::model_card::model_card;
use crate::saved::{Folders, Trained};
use crate::{validation, whole_folder};

/// Writes the student's files, scheduler/ and README.md into the run's folder, and at last that it is `finished`.
/// Each folder and each file is there whole or not at all.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn write(
    config: &Config,
    trained: &Trained,
    scheduler: &SchedulerConfig,
    finished: &Finished,
) -> Result<(), TrainError> {
    let folder = &config.run.output_dir;
    // From here on the results are no longer those of an earlier end.
    Finished::forget(folder)?;
    let files = trained.save(folder, Folders::Whole)?;
    trained.save_kohya(folder)?;
    let lcm = lcm_scheduler_config(
        scheduler,
        i64::from(config.distillation.num_ddim_timesteps),
        config.distillation.timestep_scaling_factor,
    )?;
    whole_folder::put(&folder.join("scheduler"), |place| {
        Ok(write_json_atomic(&place.join("scheduler_config.json"), &lcm)?)
    })?;
    let pictures = validation::latest(folder);
    let card = model_card(config, finished.steps, finished.samples, pictures.as_deref());
    write_text(&folder.join("README.md"), &card)?;
    finished.write(folder, files.names())
}

/// Writes a text file, whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    write_atomic(path, |file| {
        std::io::Write::write_all(file, text.as_bytes()).map_err(|error| ModelError::io("write", path, error))
    })?;
    Ok(())
}
