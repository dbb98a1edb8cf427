//! Linear maps of the last dimension, and tables of embeddings.

use tch::Tensor;

use super::Bias;
use crate::params::{Init, Path, Slot, Weights};

/// `y = x W^T + b` over the last dimension: `[.., inputs] -> [.., outputs]`.
#[derive(Debug)]
pub struct Linear {
    weight: Slot,
    bias: Option<Slot>,
}

impl Linear {
    /// Declares `weight` `[outputs, inputs]` and, with it, `bias` `[outputs]` at `path`.
    pub fn new(path: &Path<'_>, inputs: i64, outputs: i64, bias: Bias) -> Self {
        let init = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Linear {
            weight: path.map(&[outputs, inputs], init),
            bias: (bias == Bias::Yes).then(|| path.param("bias", &[outputs], init)),
        }
    }

    /// Applies the map, with the adapters attached to it.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let y = x.linear(&weights[self.weight], self.bias.map(|slot| &weights[slot]));
        let adapters = weights.adapters(self.weight).iter();
        adapters.fold(y, |y, adapter| y + adapter.linear(x))
    }
}

/// A table with one row a token or position.
#[derive(Debug)]
pub struct Embedding {
    weight: Slot,
}

impl Embedding {
    /// Declares `weight` `[rows, width]` at `path`.
    pub fn new(path: &Path<'_>, rows: i64, width: i64) -> Self {
        Embedding {
            weight: path.param("weight", &[rows, width], Init::Normal(0.02)),
        }
    }

    /// The first `count` rows: `[count, width]`.
    pub fn first(&self, weights: &Weights, count: i64) -> Tensor {
        weights[self.weight].narrow(0, 0, count)
    }

    /// The rows of these indices (i64): `[..] -> [.., width]`.
    pub fn forward(&self, weights: &Weights, indices: &Tensor) -> Tensor {
        Tensor::embedding(&weights[self.weight], indices, -1, false, false)
    }
}
