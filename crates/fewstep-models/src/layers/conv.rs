//! Two-dimensional convolutions with square kernels.

use tch::Tensor;

use super::Bias;
use crate::params::{Init, Path, Slot, Weights};

/// A square convolution: `[B, inputs, H, W] -> [B, outputs, H', W']`.
#[derive(Debug)]
pub struct Conv2d {
    weight: Slot,
    bias: Option<Slot>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Stride 1, and as much padding as keeps height and width. Has a bias.
    pub fn same(path: &Path<'_>, inputs: i64, outputs: i64, kernel: i64) -> Self {
        Conv2d::new(path, inputs, outputs, kernel, 1, kernel / 2, Bias::Yes)
    }

    /// Declares `weight` `[outputs, inputs, kernel, kernel]` and, with it, `bias` `[outputs]` at `path`.
    pub fn new(
        path: &Path<'_>,
        inputs: i64,
        outputs: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
        bias: Bias,
    ) -> Self {
        let init = Init::Uniform(1.0 / ((inputs * kernel * kernel) as f64).sqrt());
        Conv2d {
            weight: path.map(&[outputs, inputs, kernel, kernel], init),
            bias: (bias == Bias::Yes).then(|| path.param("bias", &[outputs], init)),
            stride,
            padding,
        }
    }

    /// Applies the convolution, with the adapters attached to it.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let bias = self.bias.map(|slot| &weights[slot]);
        let y = x.conv2d(
            &weights[self.weight],
            bias,
            [self.stride; 2],
            [self.padding; 2],
            [1, 1],
            1,
        );
        let adapters = weights.adapters(self.weight).iter();
        adapters.fold(y, |y, adapter| y + adapter.conv2d(x, self.stride, self.padding))
    }
}
