//! DDIM without noise (eta = 0; Song et al., 2021): how a teacher paints.

use tch::Tensor;

use super::prediction::{noise, picture, roots};
use super::timeline::last_part;
use super::{NoiseSchedule, SampleLimit, ScheduleError, SchedulerConfig, Timeline, TimestepSpacing};

/// What a sampler is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimTimesteps {
    /// The number of steps over the whole schedule.
    pub steps: i64,
    /// The share of them that is done, in (0, 1]: 1 starts at pure noise, less at a noisy picture. Of n steps
    /// the first n - floor(n * strength) are left out, as by diffusers' pipelines.
    pub strength: f64,
}

impl DdimTimesteps {
    /// So many steps from pure noise.
    pub fn count(steps: i64) -> Self {
        DdimTimesteps { steps, strength: 1.0 }
    }
}

/// A sampler that knows its timesteps. It holds no state: a step is a function of its number.
#[derive(Debug, Clone)]
pub struct DdimSampler {
    timeline: Timeline,
    /// T / n rounded down: how far a step goes, also where the spacing put the next timestep elsewhere.
    stride: i64,
    final_alpha_cumprod: f32,
    limit: SampleLimit,
}

impl DdimSampler {
    /// A sampler with the timesteps that diffusers' `DDIMScheduler` has for this configuration. There, rounding adds a timestep -1 to some numbers of `trailing` steps (61, 103 of 1000),
    /// at which no model was trained; here it does not.
    ///
    /// # Errors
    /// A schedule that cannot be, a number of steps for which a timestep falls outside it, or a strength that
    /// leaves none of them.
    pub fn new(config: &SchedulerConfig, timesteps: &DdimTimesteps) -> Result<Self, ScheduleError> {
        let DdimTimesteps { steps, strength } = *timesteps;
        let schedule = NoiseSchedule::new(config)?;
        let total = schedule.num_train_timesteps();
        if steps < 1 || steps > total {
            return Err(ScheduleError::Range {
                what: "the number of sampling steps",
                value: steps.to_string(),
                wanted: format!("between 1 and the {total} timesteps of the noise schedule"),
            });
        }
        let timesteps = visited(config, total, steps);
        if let Some(t) = timesteps.iter().find(|t| !(0..total).contains(*t)) {
            return Err(ScheduleError::Range {
                what: "a timestep of the sampler",
                value: t.to_string(),
                wanted: format!("below {total}; take fewer steps, or a smaller `steps_offset`"),
            });
        }
        Ok(DdimSampler {
            stride: total / steps,
            final_alpha_cumprod: schedule.alpha_cumprod(if config.set_alpha_to_one { -1 } else { 0 }),
            limit: config.limit,
            timeline: Timeline::new(schedule, last_part(&timesteps, strength)?),
        })
    }

    /// Its timesteps.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The latents after step number `index`, from the model's output `o` (guided already) at latents `z`: all
    /// `[B, C, h, w]`, the result f32.
    ///
    /// # Panics
    /// If there is no step of that number, or the shapes differ.
    pub fn step(&self, index: usize, o: &Tensor, z: &Tensor) -> Tensor {
        let (t, schedule) = (self.timeline.timesteps()[index], self.timeline.schedule());
        let (alpha, sigma) = roots(schedule.alpha_cumprod(t));
        let x0 = picture(schedule.prediction_type(), o, z, &alpha, &sigma);
        let eps = noise(schedule.prediction_type(), o, z, &alpha, &sigma);
        let abar_prev = match t - self.stride {
            before if before >= 0 => schedule.alpha_cumprod(before),
            _ => self.final_alpha_cumprod,
        };
        let (alpha_prev, sigma_prev) = roots(abar_prev);
        self.limit.apply(x0) * alpha_prev + eps * sigma_prev
    }
}

fn visited(config: &SchedulerConfig, total: i64, steps: i64) -> Vec<i64> {
    let (t, n) = (total as f64, steps as f64);
    match config.timestep_spacing {
        TimestepSpacing::Leading => (0..steps)
            .rev()
            .map(|i| i * (total / steps) + config.steps_offset)
            .collect(),
        // The stride is what the difference of the first two timesteps is after rounding, as numpy has it.
        TimestepSpacing::Trailing => (0..steps)
            .map(|i| (t + i as f64 * ((t - t / n) - t)).round_ties_even() as i64 - 1)
            .collect(),
        TimestepSpacing::Linspace if steps == 1 => vec![0],
        TimestepSpacing::Linspace => (0..steps)
            .rev()
            .map(|i| (i as f64 * ((t - 1.0) / (n - 1.0))).round_ties_even() as i64)
            .collect(),
    }
}
