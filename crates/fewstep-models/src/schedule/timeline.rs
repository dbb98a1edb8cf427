//! The timesteps that a sampler visits, and how noisy a picture is at them.

use tch::Tensor;

use super::prediction::{float, roots};
use super::{NoiseSchedule, ScheduleError};

/// Timesteps, descending, on a noise schedule.
#[derive(Debug, Clone)]
pub struct Timeline {
    schedule: NoiseSchedule,
    timesteps: Vec<i64>,
}

impl Timeline {
    /// Timesteps of this schedule.
    pub(super) fn new(schedule: NoiseSchedule, timesteps: Vec<i64>) -> Self {
        Timeline { schedule, timesteps }
    }

    /// The schedule.
    pub(super) fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// The timesteps, descending.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// z = sqrt(abar) x + sqrt(1 - abar) n at the first timestep: where painting over a picture `x` starts.
    pub fn start(&self, x: &Tensor, noise: &Tensor) -> Tensor {
        match self.timesteps.first() {
            Some(&t) => self.noisy(x, noise, t),
            None => float(x),
        }
    }

    /// The timestep after step number `index`; none after the last one.
    pub(super) fn next(&self, index: usize) -> Option<i64> {
        self.timesteps.get(index + 1).copied()
    }

    /// A picture `x` with as much noise as there is after step number `index`; after the last one, `x`.
    pub(crate) fn noisy_after(&self, index: usize, x: &Tensor, noise: &Tensor) -> Tensor {
        match self.next(index) {
            Some(next) => self.noisy(x, noise, next),
            None => float(x),
        }
    }

    /// A picture `x` with as much noise as there is at timestep `t`.
    pub(super) fn noisy(&self, x: &Tensor, noise: &Tensor, t: i64) -> Tensor {
        let (alpha, sigma) = roots(self.schedule.alpha_cumprod(t));
        float(x) * alpha + float(noise) * sigma
    }
}

/// The last floor(n * strength) of n timesteps.
///
/// # Errors
/// A strength outside (0, 1], or one that leaves none.
pub(super) fn last_part(timesteps: &[i64], strength: f64) -> Result<Vec<i64>, ScheduleError> {
    check_strength(strength)?;
    let kept = (timesteps.len() as f64 * strength) as usize;
    match kept {
        0 => Err(ScheduleError::NoStepsLeft {
            steps: timesteps.len(),
            strength,
        }),
        kept => Ok(timesteps[timesteps.len() - kept..].to_vec()),
    }
}

/// A strength is the share of a schedule that is used.
///
/// # Errors
/// It is outside (0, 1].
pub(super) fn check_strength(strength: f64) -> Result<(), ScheduleError> {
    match strength > 0.0 && strength <= 1.0 {
        true => Ok(()),
        false => Err(ScheduleError::Range {
            what: "the strength",
            value: strength.to_string(),
            wanted: "above 0 and at most 1".to_owned(),
        }),
    }
}
