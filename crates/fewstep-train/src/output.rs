//! What a finished run leaves: the student as diffusers loads it, its moving average, the scheduler that fits
//! them, and a model card.

use std::path::Path;

use fewstep_models::schedule::{SchedulerConfig, lcm_scheduler_config};
use fewstep_models::weights::{ModelError, write_atomic, write_json_atomic};

use crate::config::Config;
use crate::error::TrainError;
use crate::model_card::model_card;
use crate::saved;
use crate::student::Unets;

/// Writes the student's files, scheduler/ and README.md into the run's folder.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn write(
    config: &Config,
    unets: &Unets,
    scheduler: &SchedulerConfig,
    steps: u64,
    samples: u64,
) -> Result<(), TrainError> {
    let folder = &config.run.output_dir;
    saved::save(folder, unets)?;
    saved::save_kohya(folder, unets)?;
    let lcm = lcm_scheduler_config(
        scheduler,
        i64::from(config.distillation.num_ddim_timesteps),
        config.distillation.timestep_scaling_factor,
    )?;
    let place = folder.join("scheduler");
    std::fs::create_dir_all(&place).map_err(|error| TrainError::io("make folder", &place, error))?;
    write_json_atomic(&place.join("scheduler_config.json"), &lcm)?;
    write_text(&folder.join("README.md"), &model_card(config, steps, samples))
}

/// Writes a text file, whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    write_atomic(path, |file| {
        std::io::Write::write_all(file, text.as_bytes()).map_err(|error| ModelError::io("write", path, error))
    })?;
    Ok(())
}
