//! The scheduler configuration that goes with a distilled student.

use serde_json::{Value, json};

use super::{BetaSchedule, ScheduleError, SchedulerConfig, betas};

/// The `scheduler_config.json` of a diffusers `LCMScheduler` that samples as the run distilled: its noise
/// schedule and prediction type, the run's number of solver steps N and its timestep scaling.
///
/// Training neither clips nor thresholds, so the file says so whatever the teacher's scheduler did with its
/// own samples. A schedule that `LCMScheduler` has no name for is written as `trained_betas`.
///
/// # Errors
/// A configuration without a valid schedule.
pub fn lcm_scheduler_config(
    config: &SchedulerConfig,
    original_inference_steps: i64,
    timestep_scaling: f64,
) -> Result<Value, ScheduleError> {
    let trained_betas = match (&config.trained_betas, config.beta_schedule) {
        (None, BetaSchedule::Sigmoid) => {
            // Written before any rescaling, which the reader does again.
            let plain = SchedulerConfig {
                rescale_betas_zero_snr: false,
                ..config.clone()
            };
            Some(betas::betas(&plain)?.into_iter().map(f64::from).collect())
        }
        (trained, _) => trained.clone(),
    };
    Ok(json!({
        "_class_name": "LCMScheduler",
        "num_train_timesteps": config.num_train_timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "trained_betas": trained_betas,
        "original_inference_steps": original_inference_steps,
        "clip_sample": false,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": config.set_alpha_to_one,
        "steps_offset": config.steps_offset,
        "prediction_type": config.prediction_type,
        "thresholding": false,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "timestep_spacing": config.timestep_spacing,
        "timestep_scaling": timestep_scaling,
        "rescale_betas_zero_snr": config.rescale_betas_zero_snr,
    }))
}
