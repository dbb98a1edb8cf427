//! Limits that samplers put on predicted pictures. Models of latents are used without.

use tch::Tensor;

/// How a predicted picture is kept in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleLimit {
    /// Not at all.
    None,
    /// Clamped to [-range, range].
    Clip(f64),
    /// Clamped to, and divided by, the quantile `ratio` of each picture's absolute values, where that is held
    /// within [1, max] (dynamic thresholding; Saharia et al., "Imagen", 2022).
    Dynamic {
        /// Which quantile.
        ratio: f64,
        /// The largest divisor.
        max: f64,
    },
}

impl SampleLimit {
    /// Applies the limit to pictures `[B, C, h, w]` f32.
    pub fn apply(&self, x0: Tensor) -> Tensor {
        match *self {
            SampleLimit::None => x0,
            SampleLimit::Clip(range) => x0.clamp(-range, range),
            SampleLimit::Dynamic { ratio, max } => {
                let flat = x0.flatten(1, -1);
                let s = flat
                    .abs()
                    .quantile_scalar(ratio, 1, true, "linear")
                    .clamp(1.0, max);
                (flat.clamp_tensor(Some(&-&s), Some(&s)) / s).view_as(&x0)
            }
        }
    }
}
