//! Residual blocks of convolutions, and the convolutions that halve and double a feature map.

use tch::Tensor;

use super::Activation;
use super::config::{TimeScaleShift, UNetConfig};
use crate::layers::{Bias, Conv2d, GroupNorm, Linear};
use crate::params::{Path, Weights};

/// Norm, activation and convolution, twice, with the time embedding between, added to the input.
#[derive(Debug)]
pub(super) struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    act: Activation,
    time_scale_shift: TimeScaleShift,
    output_scale_factor: f64,
}

impl ResnetBlock2D {
    /// `[B, inputs, H, W] -> [B, outputs, H, W]`; the sum is divided by `output_scale_factor`.
    pub(super) fn new(
        path: &Path<'_>,
        config: &UNetConfig,
        inputs: i64,
        outputs: i64,
        output_scale_factor: f64,
    ) -> Self {
        let norm = |leaf, channels| {
            GroupNorm::new(&path.sub(leaf), config.norm_num_groups, channels, config.norm_eps)
        };
        let time_outputs = match config.resnet_time_scale_shift {
            TimeScaleShift::Default => outputs,
            TimeScaleShift::ScaleShift => 2 * outputs,
        };
        ResnetBlock2D {
            norm1: norm("norm1", inputs),
            conv1: Conv2d::same(&path.sub("conv1"), inputs, outputs, 3),
            time_emb_proj: Linear::new(
                &path.sub("time_emb_proj"),
                config.time_embed_dim(),
                time_outputs,
                Bias::Yes,
            ),
            norm2: norm("norm2", outputs),
            conv2: Conv2d::same(&path.sub("conv2"), outputs, outputs, 3),
            conv_shortcut: (inputs != outputs)
                .then(|| Conv2d::same(&path.sub("conv_shortcut"), inputs, outputs, 1)),
            act: config.act_fn,
            time_scale_shift: config.resnet_time_scale_shift,
            output_scale_factor,
        }
    }

    /// Applies the block. `temb` `[B, time_embed_dim]` is the time embedding after the activation function:
    /// every block wants it so, and it is the same for all of them.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor, temb: &Tensor) -> Tensor {
        let hidden = self.act.apply(&self.norm1.forward(weights, x));
        let hidden = self.conv1.forward(weights, &hidden);
        let time = self
            .time_emb_proj
            .forward(weights, temb)
            .unsqueeze(-1)
            .unsqueeze(-1);
        let hidden = match self.time_scale_shift {
            TimeScaleShift::Default => self.norm2.forward(weights, &(hidden + time)),
            TimeScaleShift::ScaleShift => {
                let halves = time.chunk(2, 1);
                self.norm2.forward(weights, &hidden) * (&halves[0] + 1.0) + &halves[1]
            }
        };
        let hidden = self.conv2.forward(weights, &self.act.apply(&hidden));
        let sum = match &self.conv_shortcut {
            Some(conv) => conv.forward(weights, x) + hidden,
            None => x + hidden,
        };
        if self.output_scale_factor == 1.0 {
            sum
        } else {
            sum / self.output_scale_factor
        }
    }
}

/// A convolution with stride 2.
#[derive(Debug)]
pub(super) struct Downsample2D {
    conv: Conv2d,
    padding: i64,
}

impl Downsample2D {
    /// `[B, channels, H, W] -> [B, channels, ceil(H/2), ceil(W/2)]` with a padding of 1.
    pub(super) fn new(path: &Path<'_>, channels: i64, padding: i64) -> Self {
        Downsample2D {
            conv: Conv2d::new(&path.sub("conv"), channels, channels, 3, 2, padding, Bias::Yes),
            padding,
        }
    }

    /// Halves the feature map.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        match self.padding {
            // No padding means padding on the right and below only.
            0 => self.conv.forward(weights, &x.constant_pad_nd([0, 1, 0, 1])),
            _ => self.conv.forward(weights, x),
        }
    }
}

/// Nearest-neighbour enlargement and a convolution.
#[derive(Debug)]
pub(super) struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    /// Keeps the number of channels.
    pub(super) fn new(path: &Path<'_>, channels: i64) -> Self {
        Upsample2D {
            conv: Conv2d::same(&path.sub("conv"), channels, channels, 3),
        }
    }

    /// Enlarges `[B, C, H, W]` to `size` (height, width), or to twice its height and width.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor, size: Option<[i64; 2]>) -> Tensor {
        let (height, width) = spatial(x);
        let size = size.unwrap_or([2 * height, 2 * width]);
        self.conv
            .forward(weights, &x.upsample_nearest2d(size, None, None))
    }
}

/// Height and width of `[B, C, H, W]`.
pub(super) fn spatial(x: &Tensor) -> (i64, i64) {
    let size = x.size();
    (size[2], size[3])
}
