//! Which timesteps an LCM sampler visits: a subset of those that the student was distilled at.

use super::ddim_solver::evenly_spaced;
use super::timeline::{check_strength, last_part};
use super::{ScheduleError, SchedulerConfig};

/// How many steps, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steps {
    /// So many, spread over the distilled timesteps.
    Count(i64),
    /// These timesteps, descending.
    Custom(Vec<i64>),
}

/// What a sampler is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LcmTimesteps {
    /// How many steps, or which.
    pub steps: Steps,
    /// N, the solver steps of the distillation; the configuration's where `None`.
    pub original_inference_steps: Option<i64>,
    /// The share of the schedule that is used, in (0, 1]: 1 starts at pure noise, less at a noisy picture.
    /// A count of steps is spread over that share, all of them; of custom timesteps the first ones are dropped.
    pub strength: f64,
}

/// Something that is allowed and seldom meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LcmWarning {
    /// Custom timesteps that start elsewhere than at pure noise: neither at the schedule's last timestep nor at
    /// the last one of the distillation.
    #[error("the custom timesteps start at {first}, not at the schedule's last timestep {last}")]
    LateStart {
        /// The first custom timestep.
        first: i64,
        /// The schedule's last.
        last: i64,
    },
    /// Timesteps at which the student was not distilled.
    #[error("the student was not distilled at the custom timesteps {0:?}")]
    OffGrid(Vec<i64>),
    /// More timesteps than the student was distilled at.
    #[error(
        "there are {steps} custom timesteps, but the student was distilled at {original_inference_steps}"
    )]
    MoreThanDistilled {
        /// How many were given.
        steps: usize,
        /// N.
        original_inference_steps: i64,
    },
}

impl LcmTimesteps {
    /// So many steps from pure noise, with the configuration's number of solver steps.
    pub fn count(steps: i64) -> Self {
        LcmTimesteps {
            steps: Steps::Count(steps),
            original_inference_steps: None,
            strength: 1.0,
        }
    }

    /// The last part of `steps` timesteps that start at pure noise, as diffusers' general pipelines take it:
    /// of n steps the first n - floor(n * strength) are left out, so that fewer are done. (LCM's own way, the
    /// field `strength`, spreads all of them over the part.)
    ///
    /// # Errors
    /// Steps that cannot be.
    pub fn last_part(
        config: &SchedulerConfig,
        steps: i64,
        original_inference_steps: Option<i64>,
        strength: f64,
    ) -> Result<Self, ScheduleError> {
        let whole = LcmTimesteps {
            original_inference_steps,
            ..LcmTimesteps::count(steps)
        };
        let (timesteps, _) = whole.resolve(config)?;
        Ok(LcmTimesteps {
            steps: Steps::Custom(timesteps),
            strength,
            ..whole
        })
    }

    /// The timesteps, descending, and what about them is worth a warning.
    ///
    /// Custom timesteps with a strength below 1 differ from diffusers' `LCMScheduler`, which does not see that
    /// the last one is the last after dropping the first, and leaves its result noisy.
    pub(super) fn resolve(
        &self,
        config: &SchedulerConfig,
    ) -> Result<(Vec<i64>, Vec<LcmWarning>), ScheduleError> {
        check_strength(self.strength)?;
        let original = self
            .original_inference_steps
            .unwrap_or(config.original_inference_steps);
        let distilled = evenly_spaced(config.num_train_timesteps, original)?;
        match &self.steps {
            Steps::Count(steps) => {
                let part = &distilled[..(original as f64 * self.strength) as usize];
                Ok((self.spread(*steps, original, part)?, Vec::new()))
            }
            Steps::Custom(timesteps) => {
                check_custom(timesteps, config.num_train_timesteps - 1)?;
                let kept = last_part(timesteps, self.strength)?;
                let warnings = self.warnings(&kept, config.num_train_timesteps - 1, &distilled);
                Ok((kept, warnings))
            }
        }
    }

    /// `steps` of the distilled timesteps, evenly by their place in the list, from the last one down.
    fn spread(&self, steps: i64, original: i64, distilled: &[i64]) -> Result<Vec<i64>, ScheduleError> {
        if steps < 1 {
            return Err(ScheduleError::Range {
                what: "the number of sampling steps",
                value: steps.to_string(),
                wanted: "at least 1".to_owned(),
            });
        }
        if steps > distilled.len() as i64 {
            return Err(ScheduleError::TooManySteps {
                steps,
                original_inference_steps: original,
                strength: self.strength,
                available: distilled.len() as i64,
            });
        }
        let stride = distilled.len() as f64 / steps as f64;
        let place = |j| (j as f64 * stride) as usize;
        Ok((0..steps)
            .map(|j| distilled[distilled.len() - 1 - place(j)])
            .collect())
    }

    /// What is seldom meant about custom timesteps of which the strength left `kept`. diffusers compares with
    /// the part of the distilled timesteps that the strength leaves, and so warns of timesteps that it drops.
    fn warnings(&self, kept: &[i64], last: i64, distilled: &[i64]) -> Vec<LcmWarning> {
        let at_the_end = |t: i64| t == last || Some(&t) == distilled.last();
        let late = kept.first().filter(|&&t| self.strength == 1.0 && !at_the_end(t));
        let off_grid: Vec<i64> = kept.iter().filter(|t| !distilled.contains(t)).copied().collect();
        [
            late.map(|&first| LcmWarning::LateStart { first, last }),
            (!off_grid.is_empty()).then_some(LcmWarning::OffGrid(off_grid)),
            (kept.len() > distilled.len()).then_some(LcmWarning::MoreThanDistilled {
                steps: kept.len(),
                original_inference_steps: distilled.len() as i64,
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Checks that custom timesteps descend, and that the schedule has them.
fn check_custom(timesteps: &[i64], last: i64) -> Result<(), ScheduleError> {
    if let Some(pair) = timesteps.windows(2).find(|pair| pair[1] >= pair[0]) {
        return Err(ScheduleError::NotDescending {
            previous: pair[0],
            next: pair[1],
        });
    }
    if let Some(t) = timesteps.iter().find(|&&t| t < 0 || t > last) {
        return Err(ScheduleError::Range {
            what: "a custom timestep",
            value: t.to_string(),
            wanted: format!("between 0 and the noise schedule's last timestep {last}"),
        });
    }
    match timesteps.is_empty() {
        false => Ok(()),
        true => Err(ScheduleError::Range {
            what: "the number of custom timesteps",
            value: "0".to_owned(),
            wanted: "at least 1".to_owned(),
        }),
    }
}
