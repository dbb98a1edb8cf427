//! The distance d between the student's prediction and its target. Means over all elements, in f32; no
//! weights by timestep, noise level or guidance scale, as in the reference.

use tch::{Kind, Reduction, Tensor};

use crate::config::{DistillationConfig, LossType};

/// A distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// The mean of (a - b)^2.
    L2,
    /// The mean of sqrt((a - b)^2 + c^2) - c.
    Huber {
        /// Below it the distance is quadratic, above it linear.
        c: f64,
    },
}

impl Loss {
    /// The distance that the options name.
    pub fn from_config(config: &DistillationConfig) -> Self {
        match config.loss_type {
            LossType::L2 => Loss::L2,
            LossType::Huber => Loss::Huber { c: config.huber_c },
        }
    }

    /// The distance between two f32 tensors of one shape, as an f32 scalar.
    pub fn between(self, prediction: &Tensor, target: &Tensor) -> Tensor {
        match self {
            Loss::L2 => prediction.mse_loss(target, Reduction::Mean),
            Loss::Huber { c } => {
                // sqrt(d^2 + c^2) - c without its cancellation: d^2 / (sqrt(d^2 + c^2) + c).
                let d2 = (prediction - target).square();
                let root = (&d2 + c * c).sqrt();
                (d2 / (root + c)).mean(Kind::Float)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(loss: Loss, a: &[f32], b: &[f32]) -> f64 {
        loss.between(&Tensor::from_slice(a), &Tensor::from_slice(b))
            .double_value(&[])
    }

    #[test]
    fn l2_and_huber_are_their_formulas() {
        let (a, b) = ([1.0f32, -2.0, 0.5, 3.0], [0.5f32, -2.25, 0.5, 1.0]);
        let mean = |f: fn(f64, f64) -> f64, c: f64| {
            a.iter()
                .zip(b)
                .map(|(&a, b)| f(f64::from(a) - f64::from(b), c))
                .sum::<f64>()
                / 4.0
        };
        assert!((distance(Loss::L2, &a, &b) - mean(|d, _| d * d, 0.0)).abs() < 1e-7);
        for c in [1e-3, 0.1] {
            let want = mean(|d, c| (d * d + c * c).sqrt() - c, c);
            let got = distance(Loss::Huber { c }, &a, &b);
            assert!((got - want).abs() < 1e-6 * want, "{got} {want}");
        }
    }

    #[test]
    fn huber_keeps_its_digits_where_the_difference_is_small() {
        let got = distance(Loss::Huber { c: 1e-3 }, &[1e-5], &[0.0]);
        let want = (1e-10f64 + 1e-6).sqrt() - 1e-3;
        assert!((got - want).abs() < 1e-9 && got > 0.0, "{got} {want}");
        assert_eq!(distance(Loss::Huber { c: 1e-3 }, &[2.0], &[2.0]), 0.0);
    }
}
