//! One adapter: two small maps after one another.

use tch::{Kind, Tensor};

/// What is added to the output of a linear map or a convolution: `scale * B(A(dropout(x)))`.
#[derive(Debug)]
pub struct LowRank {
    /// `[r, inputs]`, or for a convolution `[r, inputs, k, k]` with the convolution's own kernel.
    pub a: Tensor,
    /// `[outputs, r]`, or for a convolution `[outputs, r, 1, 1]`.
    pub b: Tensor,
    /// alpha / r, times the weight that somebody gave the whole adapter.
    pub scale: f64,
    /// The share of inputs that are dropped, and the others lifted to make up for them; 0 outside training.
    pub dropout: f64,
}

impl LowRank {
    /// The same adapter with both tensors replaced by `f` of them.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Tensor) -> Self {
        LowRank {
            a: f(&self.a),
            b: f(&self.b),
            ..*self
        }
    }

    /// What it adds to a linear map of `x`: `[.., inputs]` to `[.., outputs]`.
    pub fn linear(&self, x: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        self.scaled(self.kept(x).linear(&self.a, none))
            .linear(&self.b, none)
    }

    /// What it adds to a convolution of `x`: `[B, inputs, H, W]` to `[B, outputs, H', W']`.
    pub fn conv2d(&self, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        let none = None::<&Tensor>;
        let inner = self
            .kept(x)
            .conv2d(&self.a, none, [stride; 2], [padding; 2], [1, 1], 1);
        self.scaled(inner)
            .conv2d(&self.b, none, [1, 1], [0, 0], [1, 1], 1)
    }

    /// The change of the weight that does the same: `scale * B A`, `[outputs, inputs, ..]` f32.
    pub fn change(&self) -> Tensor {
        let (a, b) = (self.a.to_kind(Kind::Float), self.b.to_kind(Kind::Float));
        let mut shape = a.size();
        shape[0] = b.size()[0];
        (b.flatten(1, -1).matmul(&a.flatten(1, -1)) * self.scale).view(shape.as_slice())
    }

    /// The scale goes where the fewest numbers are: between the two maps.
    fn scaled(&self, inner: Tensor) -> Tensor {
        if self.scale == 1.0 {
            inner
        } else {
            inner * self.scale
        }
    }

    fn kept(&self, x: &Tensor) -> Tensor {
        if self.dropout > 0.0 {
            x.dropout(self.dropout, true)
        } else {
            x.shallow_clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn adapter(a: &[i64], b: &[i64]) -> LowRank {
        LowRank {
            a: Tensor::randn(a, F32),
            b: Tensor::randn(b, F32),
            scale: 0.75,
            dropout: 0.0,
        }
    }

    #[test]
    fn the_change_of_the_weight_does_the_same() {
        tch::manual_seed(1);
        let x = Tensor::randn([2, 5], F32);
        let linear = adapter(&[3, 5], &[4, 3]);
        let wanted = x.linear(&linear.change(), None::<&Tensor>);
        assert!(linear.linear(&x).allclose(&wanted, 1e-5, 1e-5, false));

        let x = Tensor::randn([2, 5, 7, 6], F32);
        let conv = adapter(&[3, 5, 3, 3], &[4, 3, 1, 1]);
        let wanted = x.conv2d(&conv.change(), None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
        let got = conv.conv2d(&x, 2, 1);
        assert_eq!(got.size(), [2, 4, 4, 3]);
        assert!(got.allclose(&wanted, 1e-4, 1e-4, false));
    }

    #[test]
    fn dropout_drops_the_asked_share_and_keeps_the_mean() {
        tch::manual_seed(1);
        let half = LowRank {
            a: Tensor::eye(1000, F32),
            b: Tensor::eye(1000, F32),
            scale: 1.0,
            dropout: 0.25,
        };
        let y = half.linear(&Tensor::ones([1, 1000], F32));
        let zeros = y.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((zeros - 0.25).abs() < 0.06, "{zeros}");
        assert!((y.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.08);
    }
}
