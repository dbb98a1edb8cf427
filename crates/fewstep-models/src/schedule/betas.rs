//! The betas of a schedule and their cumulative products, to the bit as the reference's f32 arithmetic has
//! them. Plain numbers, but for the roots of a zero-terminal-SNR schedule.

use std::f64::consts::FRAC_PI_2;

use tch::Tensor;

use super::{BetaSchedule, ScheduleError, SchedulerConfig};

/// Betas may not exceed this where they come from ratios of a cosine that ends at 0.
const MAX_COSINE_BETA: f64 = 0.999;

/// Models have a thousand; tables of many more would only take memory.
const MOST_STEPS: usize = 1_000_000;

/// beta_t for every timestep.
pub(super) fn betas(config: &SchedulerConfig) -> Result<Vec<f32>, ScheduleError> {
    let steps = match usize::try_from(config.num_train_timesteps) {
        Ok(steps) if (1..=MOST_STEPS).contains(&steps) => steps,
        _ => {
            return Err(ScheduleError::Range {
                what: "the scheduler's `num_train_timesteps`",
                value: config.num_train_timesteps.to_string(),
                wanted: format!("from 1 to {MOST_STEPS}"),
            });
        }
    };
    let (start, end) = (config.beta_start, config.beta_end);
    let mut betas = match (&config.trained_betas, config.beta_schedule) {
        (Some(trained), _) if trained.len() != steps => {
            return Err(ScheduleError::TrainedBetas {
                found: trained.len(),
                wanted: steps,
            });
        }
        (Some(trained), _) => trained.iter().map(|&beta| beta as f32).collect(),
        (None, BetaSchedule::Linear) => linspace(start as f32, end as f32, steps),
        (None, BetaSchedule::ScaledLinear) => linspace(start.sqrt() as f32, end.sqrt() as f32, steps)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        (None, BetaSchedule::SquaredcosCapV2) => squared_cosine(steps),
        (None, BetaSchedule::Sigmoid) => linspace(-6.0, 6.0, steps)
            .into_iter()
            .map(|x| sigmoid(x) * (end - start) as f32 + start as f32)
            .collect(),
    };
    check(&betas)?;
    if config.rescale_betas_zero_snr {
        rescale_to_zero_terminal_snr(&mut betas)?;
    }
    Ok(betas)
}

/// abar_t = prod_{s <= t} (1 - beta_s). Factors are f32, the running product f64, each value rounded once.
pub(super) fn alphas_cumprod(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    let accumulate = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(accumulate).collect()
}

fn check(betas: &[f32]) -> Result<(), ScheduleError> {
    match betas.iter().position(|&beta| !(beta > 0.0 && beta <= 1.0)) {
        None => Ok(()),
        Some(index) => Err(ScheduleError::Beta {
            index,
            value: betas[index],
        }),
    }
}

/// `steps` numbers from `start` to `end`. The first half counts from `start`, the second from `end`, and every
/// number is rounded once (a fused multiply-add): LibTorch's way.
fn linspace(start: f32, end: f32, steps: usize) -> Vec<f32> {
    if steps == 1 {
        return vec![start];
    }
    let last = steps - 1;
    let step = (end - start) / last as f32;
    let at = |i: usize| {
        if i < steps / 2 {
            (i as f32).mul_add(step, start)
        } else {
            ((last - i) as f32).mul_add(-step, end)
        }
    };
    (0..steps).map(at).collect()
}

/// In f32 operations, but for the exponential, which is rounded from f64.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + f64::from(-x).exp() as f32)
}

/// beta_i = 1 - g((i + 1) / T) / g(i / T) with g(u) = cos^2((u + 0.008) / 1.008 * pi / 2).
fn squared_cosine(steps: usize) -> Vec<f32> {
    let g = |i: usize| {
        let u = i as f64 / steps as f64;
        ((u + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)
    };
    (0..steps)
        .map(|i| (1.0 - g(i + 1) / g(i)).min(MAX_COSINE_BETA) as f32)
        .collect()
}

/// Algorithm 1 of Lin et al. (2023): shifts and scales sqrt(abar) so that its first value stays and its last
/// is 0, and turns it back into betas.
///
/// The roots are LibTorch's, which are up to 1 ulp off. With exact ones the first abar comes out 1 ulp away;
/// where it is close to 1 that moves sqrt(1 - abar), on which the solver's last step stands, by a thousandth.
///
/// # Errors
/// The signal does not fall from the first timestep to the last: there is nothing to stretch.
fn rescale_to_zero_terminal_snr(betas: &mut [f32]) -> Result<(), ScheduleError> {
    let mut roots = alphas_cumprod(betas);
    let count = roots.len();
    Tensor::from_slice(&roots).sqrt().copy_data(&mut roots, count);
    let (first, last) = match (roots.first(), roots.last()) {
        (Some(&first), Some(&last)) if first > last => (first, last),
        _ => {
            return Err(ScheduleError::Option {
                key: "rescale_betas_zero_snr",
                value: "true".to_owned(),
                wanted: format!(
                    "it needs a signal that falls, and that of this schedule is the same at its first and at its \
                     last timestep ({} in all)",
                    roots.len()
                ),
            });
        }
    };
    let scale = first / (first - last);
    for root in &mut roots {
        *root = (*root - last) * scale;
    }
    let mut before = 1.0;
    for (beta, root) in betas.iter_mut().zip(roots) {
        let alpha_bar = root * root;
        *beta = 1.0 - alpha_bar / before;
        before = alpha_bar;
    }
    Ok(())
}
