//! The solver that the student is distilled from: DDIM on N evenly spaced timesteps (section 4.3 of the LCM
//! paper, with k = T / N skipped timesteps a step).

use tch::{Device, Tensor};

use super::prediction::{float, gather};
use super::{NoiseSchedule, ScheduleError};

/// One step of DDIM from timestep t_{n+k} to t_n, for a batch with a step index each.
///
/// Step i in 0..N goes from (i + 1) k - 1 to i k - 1. The first step has nothing before it and ends at timestep
/// 0, with that timestep's noise. An index is `[B]` i64 in 0..N.
#[derive(Debug)]
pub struct DdimSolver {
    timestep_list: Vec<i64>,
    timesteps: Tensor,
    prev_timesteps: Tensor,
    alpha_prev: Tensor,
    sigma_prev: Tensor,
}

impl DdimSolver {
    /// The tables of a solver with `num_ddim_timesteps` (N) steps. Where N does not divide T, the last T mod k
    /// timesteps are never visited.
    ///
    /// # Errors
    /// N that is not in 1..=T.
    pub fn new(
        schedule: &NoiseSchedule,
        num_ddim_timesteps: i64,
        device: Device,
    ) -> Result<Self, ScheduleError> {
        let timesteps = evenly_spaced(schedule.num_train_timesteps(), num_ddim_timesteps)?;
        let before = timesteps.iter().take(timesteps.len() - 1).copied();
        let prev_timesteps: Vec<i64> = std::iter::once(0).chain(before).collect();
        let roots = |f: fn(f32) -> f32| {
            let values: Vec<f32> = prev_timesteps
                .iter()
                .map(|&t| f(schedule.alpha_cumprod(t)))
                .collect();
            Tensor::from_slice(&values).to_device(device)
        };
        Ok(DdimSolver {
            timesteps: Tensor::from_slice(&timesteps).to_device(device),
            prev_timesteps: Tensor::from_slice(&prev_timesteps).to_device(device),
            alpha_prev: roots(f32::sqrt),
            sigma_prev: roots(|abar| (1.0 - abar).sqrt()),
            timestep_list: timesteps,
        })
    }

    /// N.
    pub fn num_ddim_timesteps(&self) -> i64 {
        self.timestep_list.len() as i64
    }

    /// Where every step begins, ascending.
    pub fn timestep_list(&self) -> &[i64] {
        &self.timestep_list
    }

    /// t_{n+k}, where the steps `index` begin: `[B]` i64.
    pub fn timesteps(&self, index: &Tensor) -> Tensor {
        self.timesteps.index_select(0, index)
    }

    /// t_n, where the steps `index` end: `[B]` i64.
    pub fn prev_timesteps(&self, index: &Tensor) -> Tensor {
        self.prev_timesteps.index_select(0, index)
    }

    /// x_prev = sqrt(abar_prev) x0 + sqrt(1 - abar_prev) eps, `[B, C, h, w]` f32.
    pub fn step(&self, x0: &Tensor, eps: &Tensor, index: &Tensor) -> Tensor {
        gather(&self.alpha_prev, index) * float(x0) + gather(&self.sigma_prev, index) * float(eps)
    }

    /// A mask `[B, 1, 1, 1]` of the steps that end at the boundary, t_n = 0, where the consistency function is
    /// the identity and no network needs to be asked.
    pub fn ends_at_boundary(&self, index: &Tensor) -> Tensor {
        self.prev_timesteps(index).eq(0).view([-1, 1, 1, 1])
    }
}

/// (i + 1) k - 1 for i in 0..N, with k = T / N rounded down.
pub(super) fn evenly_spaced(num_train_timesteps: i64, steps: i64) -> Result<Vec<i64>, ScheduleError> {
    if steps < 1 || steps > num_train_timesteps {
        return Err(ScheduleError::Range {
            what: "the number of solver steps (`num_ddim_timesteps`, `original_inference_steps`)",
            value: steps.to_string(),
            wanted: format!("between 1 and the {num_train_timesteps} timesteps of the noise schedule"),
        });
    }
    let k = num_train_timesteps / steps;
    Ok((1..=steps).map(|i| i * k - 1).collect())
}
