//! Multistep consistency sampling (algorithm 3 of the LCM paper): jump to the picture, add noise, jump again.

use tch::Tensor;

use super::prediction::{float, picture, roots};
use super::{
    LcmTimesteps, LcmWarning, NoiseSchedule, SampleLimit, ScheduleError, SchedulerConfig,
    boundary_scalings_at,
};

/// A sampler that knows its timesteps. It holds no state: a step is a function of its number.
#[derive(Debug, Clone)]
pub struct LcmSampler {
    timesteps: Vec<i64>,
    warnings: Vec<LcmWarning>,
    schedule: NoiseSchedule,
    timestep_scaling: f64,
    limit: SampleLimit,
}

/// What a step gives, both `[B, C, h, w]` f32.
#[derive(Debug)]
pub struct LcmStep {
    /// The latents at the next timestep; after the last step, `denoised` itself.
    pub prev_sample: Tensor,
    /// The picture that the consistency function sees.
    pub denoised: Tensor,
}

impl LcmSampler {
    /// A sampler for the schedule of `config` at the timesteps asked for.
    ///
    /// # Errors
    /// A schedule that cannot be, or timesteps that do not fit it.
    pub fn new(config: &SchedulerConfig, timesteps: &LcmTimesteps) -> Result<Self, ScheduleError> {
        let schedule = NoiseSchedule::new(config)?;
        let (timesteps, warnings) = timesteps.resolve(config)?;
        Ok(LcmSampler {
            timesteps,
            warnings,
            schedule,
            timestep_scaling: config.timestep_scaling,
            limit: config.limit,
        })
    }

    /// The timesteps, descending.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// What about the timesteps is seldom meant.
    pub fn warnings(&self) -> &[LcmWarning] {
        &self.warnings
    }

    /// z = sqrt(abar) x + sqrt(1 - abar) n at the first timestep: where painting over a picture `x` starts.
    pub fn add_noise(&self, x: &Tensor, noise: &Tensor) -> Tensor {
        match self.timesteps.first() {
            Some(&t) => self.noisy(x, noise, t),
            None => float(x),
        }
    }

    /// A picture `x` with as much noise as there is after step number `index`; after the last one, `x`.
    pub fn noisy_after(&self, index: usize, x: &Tensor, noise: &Tensor) -> Tensor {
        match self.timesteps.get(index + 1) {
            Some(&next) => self.noisy(x, noise, next),
            None => float(x),
        }
    }

    /// Step number `index` from the model's output `o` at latents `z`, both `[B, C, h, w]`. `noise` is asked
    /// for as many normal numbers, except at the last step.
    ///
    /// # Panics
    /// If there is no step of that number, or the shapes differ.
    pub fn step(&self, index: usize, o: &Tensor, z: &Tensor, noise: impl FnOnce() -> Tensor) -> LcmStep {
        let denoised = self.denoise(index, o, z);
        let prev_sample = match self.timesteps.get(index + 1) {
            Some(&next) => self.noisy(&denoised, &noise(), next),
            None => denoised.shallow_clone(),
        };
        LcmStep {
            prev_sample,
            denoised,
        }
    }

    /// f(z, t) = c_skip z + c_out x0.
    fn denoise(&self, index: usize, o: &Tensor, z: &Tensor) -> Tensor {
        let t = self.timesteps[index];
        let (alpha, sigma) = roots(self.schedule.alpha_cumprod(t));
        let x0 = picture(self.schedule.prediction_type(), o, z, &alpha, &sigma);
        let (c_skip, c_out) = boundary_scalings_at(t, self.timestep_scaling);
        self.limit.apply(x0) * f64::from(c_out) + float(z) * f64::from(c_skip)
    }

    fn noisy(&self, x: &Tensor, noise: &Tensor, t: i64) -> Tensor {
        let (alpha, sigma) = roots(self.schedule.alpha_cumprod(t));
        float(x) * alpha + float(noise) * sigma
    }
}
