//! Group and layer norms. LibTorch's kernels take 16-bit activations and keep their statistics in f32.

use tch::Tensor;

use crate::params::{Init, Path, Slot, Weights};

/// Normalises groups of channels of `[B, channels, ..]`.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Slot,
    bias: Slot,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Declares `weight` and `bias` `[channels]` at `path`.
    pub fn new(path: &Path<'_>, groups: i64, channels: i64, eps: f64) -> Self {
        GroupNorm {
            weight: path.param("weight", &[channels], Init::Ones),
            bias: path.param("bias", &[channels], Init::Zeros),
            groups,
            eps,
        }
    }

    /// Applies the norm.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        x.group_norm(
            self.groups,
            Some(&weights[self.weight]),
            Some(&weights[self.bias]),
            self.eps,
            true,
        )
    }
}

/// Normalises the last dimension of `[.., width]`.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Slot,
    bias: Slot,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// Declares `weight` and `bias` `[width]` at `path`.
    pub fn new(path: &Path<'_>, width: i64, eps: f64) -> Self {
        LayerNorm {
            weight: path.param("weight", &[width], Init::Ones),
            bias: path.param("bias", &[width], Init::Zeros),
            width,
            eps,
        }
    }

    /// Applies the norm.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        x.layer_norm(
            [self.width],
            Some(&weights[self.weight]),
            Some(&weights[self.bias]),
            self.eps,
            true,
        )
    }
}
