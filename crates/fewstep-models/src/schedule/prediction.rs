//! From what the model predicts to the picture and the noise in it, and from those to a noisy picture.
//!
//! With a_t = sqrt(abar_t), s_t = sqrt(1 - abar_t), z = a_t x + s_t eps, and the model's output o:
//!
//! | prediction | x | eps |
//! |---|---|---|
//! | epsilon | (z - s_t o) / a_t | o |
//! | sample | o | (z - a_t o) / s_t |
//! | velocity | a_t z - s_t o | a_t o + s_t z |

use tch::{Device, Kind, Tensor};

use super::{NoiseSchedule, PredictionType};

/// The schedule on a device: looks up a whole batch of timesteps without asking the host.
///
/// Timesteps are `[B]` i64 in 0..T. Tensors of any dtype come in as `[B, ..]`; results are f32.
#[derive(Debug)]
pub struct Tables {
    alpha: Tensor,
    sigma: Tensor,
    prediction_type: PredictionType,
}

impl Tables {
    /// Puts the schedule's square roots on `device`.
    pub fn new(schedule: &NoiseSchedule, device: Device) -> Self {
        let roots = |f: fn(&f32) -> f32| {
            let values: Vec<f32> = schedule.alphas_cumprod().iter().map(f).collect();
            Tensor::from_slice(&values).to_device(device)
        };
        Tables {
            alpha: roots(|abar| abar.sqrt()),
            sigma: roots(|abar| (1.0 - abar).sqrt()),
            prediction_type: schedule.prediction_type(),
        }
    }

    /// a_t = sqrt(abar_t), `[B, 1, 1, 1]` f32.
    pub fn alpha(&self, t: &Tensor) -> Tensor {
        gather(&self.alpha, t)
    }

    /// s_t = sqrt(1 - abar_t), `[B, 1, 1, 1]` f32.
    pub fn sigma(&self, t: &Tensor) -> Tensor {
        gather(&self.sigma, t)
    }

    /// z = a_t x + s_t eps.
    pub fn add_noise(&self, x: &Tensor, eps: &Tensor, t: &Tensor) -> Tensor {
        self.alpha(t) * float(x) + self.sigma(t) * float(eps)
    }

    /// The picture that the model's output `o` at `z` stands for.
    pub fn x0(&self, o: &Tensor, t: &Tensor, z: &Tensor) -> Tensor {
        picture(self.prediction_type, o, z, &self.alpha(t), &self.sigma(t))
    }

    /// The noise that the model's output `o` at `z` stands for.
    pub fn eps(&self, o: &Tensor, t: &Tensor, z: &Tensor) -> Tensor {
        noise(self.prediction_type, o, z, &self.alpha(t), &self.sigma(t))
    }
}

/// x of the table above. `alpha` and `sigma` broadcast against `z`.
pub(super) fn picture(
    prediction_type: PredictionType,
    o: &Tensor,
    z: &Tensor,
    alpha: &Tensor,
    sigma: &Tensor,
) -> Tensor {
    match prediction_type {
        PredictionType::Epsilon => (float(z) - sigma * float(o)) / alpha,
        PredictionType::Sample => float(o),
        PredictionType::VPrediction => alpha * float(z) - sigma * float(o),
    }
}

/// eps of the table above. `alpha` and `sigma` broadcast against `z`.
pub(super) fn noise(
    prediction_type: PredictionType,
    o: &Tensor,
    z: &Tensor,
    alpha: &Tensor,
    sigma: &Tensor,
) -> Tensor {
    match prediction_type {
        PredictionType::Epsilon => float(o),
        PredictionType::Sample => (float(z) - alpha * float(o)) / sigma,
        PredictionType::VPrediction => alpha * float(o) + sigma * float(z),
    }
}

/// a and s of a single abar, as scalars that multiply tensors on any device.
pub(super) fn roots(abar: f32) -> (Tensor, Tensor) {
    (Tensor::from(abar.sqrt()), Tensor::from((1.0 - abar).sqrt()))
}

/// Schedule arithmetic is f32, whatever the networks compute in.
pub(super) fn float(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

/// The entries at `indices` `[B]`, shaped `[B, 1, 1, 1]` to broadcast over pictures.
pub(super) fn gather(table: &Tensor, indices: &Tensor) -> Tensor {
    table.index_select(0, indices).view([-1, 1, 1, 1])
}
