//! A noise schedule: how much signal each timestep has, and what the model predicts on it.

use serde::{Deserialize, Serialize};

use super::{ScheduleError, SchedulerConfig, betas};

/// What the UNet's output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The picture.
    Sample,
    /// The velocity, sqrt(abar) noise - sqrt(1 - abar) picture (Salimans and Ho, 2022).
    VPrediction,
}

/// z_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps for t in 0..T.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
    prediction_type: PredictionType,
}

impl NoiseSchedule {
    /// Computes the schedule that a configuration describes.
    ///
    /// # Errors
    /// Betas outside (0, 1], `trained_betas` of the wrong length, or epsilon prediction on a schedule with a
    /// timestep that has no signal.
    pub fn new(config: &SchedulerConfig) -> Result<Self, ScheduleError> {
        let alphas_cumprod = betas::alphas_cumprod(&betas::betas(config)?);
        let without_signal = alphas_cumprod.iter().position(|&abar| abar <= 0.0);
        match (config.prediction_type, without_signal) {
            (PredictionType::Epsilon, Some(t)) => Err(ScheduleError::EpsilonWithoutSignal(t)),
            (prediction_type, _) => Ok(NoiseSchedule {
                alphas_cumprod,
                prediction_type,
            }),
        }
    }

    /// abar_t for t in 0..T.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// What the model predicts.
    pub fn prediction_type(&self) -> PredictionType {
        self.prediction_type
    }

    /// T, the number of timesteps.
    pub fn num_train_timesteps(&self) -> i64 {
        self.alphas_cumprod.len() as i64
    }

    /// abar_t; no noise at all (1) before the first timestep.
    pub(super) fn alpha_cumprod(&self, t: i64) -> f32 {
        usize::try_from(t).map_or(1.0, |t| self.alphas_cumprod[t])
    }
}
