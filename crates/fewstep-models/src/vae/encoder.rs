//! The encoder: pictures to the moments of latents.

use tch::Tensor;

use super::VaeConfig;
use super::blocks::{Downsample, MidBlock, NORM_EPS, ResnetBlock};
use crate::layers::{Conv2d, GroupNorm};
use crate::params::{Path, Weights};

/// `[B, in_channels, H, W] -> [B, 2 latent_channels, h, w]`: mean and logvar, before the quant convolution.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Debug)]
struct Level {
    resnets: Vec<ResnetBlock>,
    downsample: Option<Downsample>,
}

impl Encoder {
    pub(super) fn new(path: &Path<'_>, config: &VaeConfig) -> Self {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let conv_in = Conv2d::same(&path.sub("conv_in"), config.in_channels, first, 3);
        let mut inputs = first;
        let levels = widths.iter().enumerate().map(|(i, &outputs)| {
            let path = path.sub("down_blocks").sub(i);
            let resnets = (0..config.layers_per_block)
                .map(|j| {
                    let from = if j == 0 { inputs } else { outputs };
                    ResnetBlock::new(&path.sub("resnets").sub(j), from, outputs, config.norm_num_groups)
                })
                .collect();
            inputs = outputs;
            Level {
                resnets,
                downsample: (i + 1 < widths.len()).then(|| Downsample::new(&path, outputs)),
            }
        });
        Encoder {
            conv_in,
            levels: levels.collect(),
            mid_block: MidBlock::new(&path.sub("mid_block"), config, last),
            conv_norm_out: GroupNorm::new(&path.sub("conv_norm_out"), config.norm_num_groups, last, NORM_EPS),
            conv_out: Conv2d::same(&path.sub("conv_out"), last, 2 * config.latent_channels, 3),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, pixels: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(weights, pixels);
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(weights, &x);
            }
            if let Some(downsample) = &level.downsample {
                x = downsample.forward(weights, &x);
            }
        }
        let x = self.mid_block.forward(weights, &x);
        let x = self.conv_norm_out.forward(weights, &x).silu();
        self.conv_out.forward(weights, &x)
    }
}
