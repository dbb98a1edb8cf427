//! Multistep consistency sampling (algorithm 3 of the LCM paper): jump to the picture, add noise, jump again.

use tch::Tensor;

use super::prediction::{float, picture, roots};
use super::{
    LcmTimesteps, LcmWarning, NoiseSchedule, SampleLimit, ScheduleError, SchedulerConfig, Timeline,
    boundary_scalings_at,
};

/// A sampler that knows its timesteps. It holds no state: a step is a function of its number.
#[derive(Debug, Clone)]
pub struct LcmSampler {
    timeline: Timeline,
    warnings: Vec<LcmWarning>,
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
            timeline: Timeline::new(schedule, timesteps),
            warnings,
            timestep_scaling: config.timestep_scaling,
            limit: config.limit,
        })
    }

    /// Its timesteps.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What about the timesteps is seldom meant.
    pub fn warnings(&self) -> &[LcmWarning] {
        &self.warnings
    }

    /// Step number `index` from the model's output `o` at latents `z`, both `[B, C, h, w]`. `noise` is asked
    /// for as many normal numbers, except at the last step.
    ///
    /// # Panics
    /// If there is no step of that number, or the shapes differ.
    pub fn step(&self, index: usize, o: &Tensor, z: &Tensor, noise: impl FnOnce() -> Tensor) -> LcmStep {
        let denoised = self.denoise(index, o, z);
        let prev_sample = match self.timeline.next(index) {
            Some(next) => self.timeline.noisy(&denoised, &noise(), next),
            None => denoised.shallow_clone(),
        };
        LcmStep {
            prev_sample,
            denoised,
        }
    }

    /// f(z, t) = c_skip z + c_out x0.
    fn denoise(&self, index: usize, o: &Tensor, z: &Tensor) -> Tensor {
        let (t, schedule) = (self.timeline.timesteps()[index], self.timeline.schedule());
        let (alpha, sigma) = roots(schedule.alpha_cumprod(t));
        let x0 = picture(schedule.prediction_type(), o, z, &alpha, &sigma);
        let (c_skip, c_out) = boundary_scalings_at(t, self.timestep_scaling);
        self.limit.apply(x0) * f64::from(c_out) + float(z) * f64::from(c_skip)
    }
}
