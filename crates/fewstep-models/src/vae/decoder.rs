//! The decoder: latents to pictures.

use tch::Tensor;

use super::VaeConfig;
use super::blocks::{MidBlock, NORM_EPS, ResnetBlock, Upsample};
use crate::layers::{Conv2d, GroupNorm};
use crate::params::{Path, Weights};

/// `[B, latent_channels, h, w] -> [B, out_channels, H, W]`, after the post-quant convolution.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    levels: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Debug)]
struct Level {
    resnets: Vec<ResnetBlock>,
    upsample: Option<Upsample>,
}

impl Decoder {
    pub(super) fn new(path: &Path<'_>, config: &VaeConfig) -> Self {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let conv_in = Conv2d::same(&path.sub("conv_in"), config.latent_channels, last, 3);
        let mid_block = MidBlock::new(&path.sub("mid_block"), config, last);
        let mut inputs = last;
        let levels = widths.iter().rev().enumerate().map(|(i, &outputs)| {
            let path = path.sub("up_blocks").sub(i);
            let resnets = (0..=config.layers_per_block)
                .map(|j| {
                    let from = if j == 0 { inputs } else { outputs };
                    ResnetBlock::new(&path.sub("resnets").sub(j), from, outputs, config.norm_num_groups)
                })
                .collect();
            inputs = outputs;
            Level {
                resnets,
                upsample: (i + 1 < widths.len()).then(|| Upsample::new(&path, outputs)),
            }
        });
        Decoder {
            conv_in,
            mid_block,
            levels: levels.collect(),
            conv_norm_out: GroupNorm::new(
                &path.sub("conv_norm_out"),
                config.norm_num_groups,
                first,
                NORM_EPS,
            ),
            conv_out: Conv2d::same(&path.sub("conv_out"), first, config.out_channels, 3),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, latents: &Tensor) -> Tensor {
        let x = self.conv_in.forward(weights, latents);
        let mut x = self.mid_block.forward(weights, &x);
        for level in &self.levels {
            for resnet in &level.resnets {
                x = resnet.forward(weights, &x);
            }
            if let Some(upsample) = &level.upsample {
                x = upsample.forward(weights, &x);
            }
        }
        let x = self.conv_norm_out.forward(weights, &x).silu();
        self.conv_out.forward(weights, &x)
    }
}
