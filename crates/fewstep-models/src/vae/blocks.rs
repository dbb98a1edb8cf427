//! The blocks that a VAE's encoder and decoder share: residual block, self-attention, their middle, and the
//! changes of resolution.
//!
//! It knows shapes and names, not the order in which encoder and decoder use them.

use tch::Tensor;

use super::VaeConfig;
use crate::layers::{Bias, Conv2d, GroupNorm, Linear};
use crate::params::{Path, Weights};

/// Added to variances, in every norm of the VAE.
pub(super) const NORM_EPS: f64 = 1e-6;

/// `x + conv(silu(norm(conv(silu(norm(x))))))`: `[B, inputs, H, W] -> [B, outputs, H, W]`.
#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    /// Where the width changes, x passes a 1x1 convolution.
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(super) fn new(path: &Path<'_>, inputs: i64, outputs: i64, groups: i64) -> Self {
        ResnetBlock {
            norm1: GroupNorm::new(&path.sub("norm1"), groups, inputs, NORM_EPS),
            conv1: Conv2d::same(&path.sub("conv1"), inputs, outputs, 3),
            norm2: GroupNorm::new(&path.sub("norm2"), groups, outputs, NORM_EPS),
            conv2: Conv2d::same(&path.sub("conv2"), outputs, outputs, 3),
            conv_shortcut: (inputs != outputs)
                .then(|| Conv2d::same(&path.sub("conv_shortcut"), inputs, outputs, 1)),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let h = self
            .conv1
            .forward(weights, &self.norm1.forward(weights, x).silu());
        let h = self
            .conv2
            .forward(weights, &self.norm2.forward(weights, &h).silu());
        match &self.conv_shortcut {
            Some(conv) => conv.forward(weights, x) + h,
            None => x + h,
        }
    }
}

/// Self-attention over all pixels with one head: `[B, C, H, W] -> [B, C, H, W]`.
#[derive(Debug)]
struct AttentionBlock {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl AttentionBlock {
    fn new(path: &Path<'_>, channels: i64, groups: i64) -> Self {
        let linear = |name: &str| Linear::new(&path.sub(name), channels, channels, Bias::Yes);
        AttentionBlock {
            group_norm: GroupNorm::new(&path.sub("group_norm"), groups, channels, NORM_EPS),
            to_q: linear("to_q"),
            to_k: linear("to_k"),
            to_v: linear("to_v"),
            to_out: linear("to_out.0"),
        }
    }

    fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        // [B, C, H, W] -> [B, 1 head, H*W, C]
        let pixels = self
            .group_norm
            .forward(weights, x)
            .flatten(2, 3)
            .transpose(1, 2)
            .unsqueeze(1);
        let q = self.to_q.forward(weights, &pixels);
        let k = self.to_k.forward(weights, &pixels);
        let v = self.to_v.forward(weights, &pixels);
        let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
        let out = self.to_out.forward(weights, &mixed);
        x + out.squeeze_dim(1).transpose(1, 2).reshape(x.size())
    }
}

/// The coarsest level: residual block, attention where the configuration wants it, residual block.
#[derive(Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock,
    attention: Option<AttentionBlock>,
    second: ResnetBlock,
}

impl MidBlock {
    pub(super) fn new(path: &Path<'_>, config: &VaeConfig, channels: i64) -> Self {
        let groups = config.norm_num_groups;
        let resnets = path.sub("resnets");
        MidBlock {
            first: ResnetBlock::new(&resnets.sub(0), channels, channels, groups),
            attention: config
                .mid_block_add_attention
                .then(|| AttentionBlock::new(&path.sub("attentions").sub(0), channels, groups)),
            second: ResnetBlock::new(&resnets.sub(1), channels, channels, groups),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let x = self.first.forward(weights, x);
        let x = match &self.attention {
            Some(attention) => attention.forward(weights, &x),
            None => x,
        };
        self.second.forward(weights, &x)
    }
}

/// Halves height and width: `[B, C, H, W] -> [B, C, H/2, W/2]`.
#[derive(Debug)]
pub(super) struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    pub(super) fn new(path: &Path<'_>, channels: i64) -> Self {
        let path = path.sub("downsamplers").sub(0).sub("conv");
        Downsample {
            conv: Conv2d::new(&path, channels, channels, 3, 2, 0, Bias::Yes),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        // Padded on the right and at the bottom only, as the network was trained.
        self.conv.forward(weights, &x.constant_pad_nd([0, 1, 0, 1]))
    }
}

/// Doubles height and width: `[B, C, H, W] -> [B, C, 2H, 2W]`.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn new(path: &Path<'_>, channels: i64) -> Self {
        Upsample {
            conv: Conv2d::same(&path.sub("upsamplers").sub(0).sub("conv"), channels, channels, 3),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let (_, _, height, width) = sizes(x);
        let larger = x.upsample_nearest2d([2 * height, 2 * width], None, None);
        self.conv.forward(weights, &larger)
    }
}

/// The four sizes of a batch of pictures.
fn sizes(x: &Tensor) -> (i64, i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2], size[3])
}
