//! `scheduler_config.json`: the keys that diffusers' schedulers share, whichever class wrote the file.
//!
//! Keys that only steer other samplers are ignored. A value that would change the mathematics and is not
//! supported is an error that names it.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PredictionType, SampleLimit, ScheduleError};
use crate::weights::{ModelError, read_text};

/// How the betas grow from `beta_start` to `beta_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// Evenly in their square roots: Stable Diffusion.
    ScaledLinear,
    /// So that the cumulative product follows a squared cosine (Nichol and Dhariwal, 2021), capped at 0.999.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredcosCapV2,
    /// Along a sigmoid over [-6, 6].
    Sigmoid,
}

/// How the DDIM sampler spreads its timesteps (table 2 of Lin et al., "Common diffusion noise schedules and
/// sample steps are flawed", 2023).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// From 0 (plus `steps_offset`) upwards in whole steps; seldom reaches the last timestep.
    Leading,
    /// From the last timestep downwards.
    Trailing,
    /// From 0 to the last timestep, both included.
    Linspace,
}

/// What a scheduler's configuration says, with diffusers' names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// T, the number of timesteps of the diffusion.
    pub num_train_timesteps: i64,
    /// The first beta.
    pub beta_start: f64,
    /// The last beta.
    pub beta_end: f64,
    /// The way between them.
    pub beta_schedule: BetaSchedule,
    /// The betas themselves; where given, the three fields above are not used.
    pub trained_betas: Option<Vec<f64>>,
    /// Whether the schedule is stretched until its last timestep is pure noise.
    pub rescale_betas_zero_snr: bool,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// How the samplers limit predicted pictures.
    pub limit: SampleLimit,
    /// DDIM: whether the state after the last step is free of noise; else it has timestep 0's.
    pub set_alpha_to_one: bool,
    /// DDIM: added to `leading` timesteps.
    pub steps_offset: i64,
    /// DDIM: where the timesteps lie.
    pub timestep_spacing: TimestepSpacing,
    /// LCM: N, the number of solver steps that the model was distilled with.
    pub original_inference_steps: i64,
    /// LCM: what the timestep is multiplied with in the boundary scalings.
    pub timestep_scaling: f64,
}

impl SchedulerConfig {
    /// Reads `scheduler_config.json` of a folder.
    ///
    /// # Errors
    /// A file that is missing or not JSON, and what [`SchedulerConfig::from_json`] refuses; all name the file.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("scheduler_config.json");
        if !path.exists() {
            return Err(ModelError::Missing {
                path,
                remedy: "it describes the noise that the model was trained with".to_owned(),
            });
        }
        let text = read_text(&path)?;
        let json =
            serde_json::from_str(&without_bare_infinities(&text)).map_err(|source| ModelError::Json {
                path: path.clone(),
                source,
            })?;
        SchedulerConfig::from_json(&json).map_err(|error| ModelError::from(error).in_file(&path))
    }

    /// Reads a configuration of any of diffusers' schedulers with betas.
    ///
    /// Missing keys take the defaults of `DDPMScheduler`, with which diffusers' training scripts read the file,
    /// or those of `LCMScheduler` where the file names that class. `clip_sample` is the exception: clipping is
    /// for pixels, so latents are clipped only where the file says so.
    ///
    /// # Errors
    /// A class without betas, or a value that is not supported.
    pub fn from_json(json: &Value) -> Result<Self, ScheduleError> {
        if !json.is_object() {
            return Err(ScheduleError::NotAnObject);
        }
        let class = json["_class_name"].as_str().unwrap_or_default();
        if class.contains("FlowMatch") || class.starts_with("EDM") {
            return Err(ScheduleError::Class(class.to_owned()));
        }
        refuse_what_changes_the_model(json)?;
        let (beta_start, beta_end, beta_schedule) = match class {
            "LCMScheduler" => (0.00085, 0.012, BetaSchedule::ScaledLinear),
            _ => (0.0001, 0.02, BetaSchedule::Linear),
        };
        let timestep_scaling = number(json, "timestep_scaling", 10.0)?;
        if !(timestep_scaling > 0.0 && f64::is_finite(timestep_scaling)) {
            return Err(unsupported(
                "timestep_scaling",
                &json["timestep_scaling"],
                "it must be above 0",
            ));
        }
        Ok(SchedulerConfig {
            num_train_timesteps: number(json, "num_train_timesteps", 1000)?,
            beta_start: number(json, "beta_start", beta_start)?,
            beta_end: number(json, "beta_end", beta_end)?,
            beta_schedule: read(
                json,
                "beta_schedule",
                beta_schedule,
                "use `scaled_linear`, `linear`, `squaredcos_cap_v2` or `sigmoid`, or give `trained_betas`",
            )?,
            trained_betas: read(
                json,
                "trained_betas",
                None,
                "it must be a list of numbers or null",
            )?,
            rescale_betas_zero_snr: flag(json, "rescale_betas_zero_snr", false)?,
            prediction_type: read(
                json,
                "prediction_type",
                PredictionType::Epsilon,
                "use `epsilon`, `sample` or `v_prediction`",
            )?,
            limit: limit(json)?,
            set_alpha_to_one: flag(json, "set_alpha_to_one", true)?,
            steps_offset: number(json, "steps_offset", 0)?,
            timestep_spacing: read(
                json,
                "timestep_spacing",
                TimestepSpacing::Leading,
                "use `leading`, `trailing` or `linspace`",
            )?,
            original_inference_steps: number(json, "original_inference_steps", 50)?,
            timestep_scaling,
        })
    }
}

/// Options that change what the model's output means or how much noise a timestep has.
fn refuse_what_changes_the_model(json: &Value) -> Result<(), ScheduleError> {
    if let Some(variance) = json["variance_type"].as_str()
        && variance.starts_with("learned")
    {
        return Err(unsupported(
            "variance_type",
            &json["variance_type"],
            "a model that predicts its variance cannot be distilled; use one with a fixed variance",
        ));
    }
    match json["snr_shift_scale"].as_f64() {
        Some(scale) if scale != 1.0 => Err(unsupported(
            "snr_shift_scale",
            &json["snr_shift_scale"],
            "only an unshifted schedule (1.0) is",
        )),
        _ => Ok(()),
    }
}

fn limit(json: &Value) -> Result<SampleLimit, ScheduleError> {
    if flag(json, "thresholding", false)? {
        return Ok(SampleLimit::Dynamic {
            ratio: number(json, "dynamic_thresholding_ratio", 0.995)?,
            max: number(json, "sample_max_value", 1.0)?,
        });
    }
    if flag(json, "clip_sample", false)? {
        return Ok(SampleLimit::Clip(number(json, "clip_sample_range", 1.0)?));
    }
    Ok(SampleLimit::None)
}

fn number<T: DeserializeOwned>(json: &Value, key: &'static str, default: T) -> Result<T, ScheduleError> {
    read(json, key, default, "it must be a number")
}

fn flag(json: &Value, key: &'static str, default: bool) -> Result<bool, ScheduleError> {
    read(json, key, default, "it must be true or false")
}

/// The value of `key`; `default` where it is missing or null.
fn read<T: DeserializeOwned>(
    json: &Value,
    key: &'static str,
    default: T,
    wanted: &str,
) -> Result<T, ScheduleError> {
    match &json[key] {
        Value::Null => Ok(default),
        value => T::deserialize(value).map_err(|_| unsupported(key, value, wanted)),
    }
}

fn unsupported(key: &'static str, value: &Value, wanted: &str) -> ScheduleError {
    ScheduleError::Option {
        key,
        value: value.to_string(),
        wanted: wanted.to_owned(),
    }
}

/// Python writes infinities as bare words, which JSON does not have (`lambda_min_clipped` of DPM-Solver).
/// They stand only where fewstep does not look, so they are read as null.
fn without_bare_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.push('"');
        }
        // Every second part lies within quotes; a configuration's strings hold no escaped ones.
        if i % 2 == 0 {
            let part = part.replace("-Infinity", "null").replace("Infinity", "null");
            out.push_str(&part.replace("NaN", "null"));
        } else {
            out.push_str(part);
        }
    }
    out
}
