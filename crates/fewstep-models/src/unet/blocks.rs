//! The UNet's levels: residual blocks, each followed by a transformer where the level has attention, then a
//! change of resolution.

use tch::Tensor;

use super::attention::{Transformer2D, TransformerShape};
use super::config::{MidBlockType, UNetConfig};
use super::recompute::{Piece, Recomputable, Recomputed};
use super::resnet::{Downsample2D, ResnetBlock2D, Upsample2D};
use crate::params::{Path, Weights};

/// What every block is given besides the feature map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions<'a> {
    /// The time embedding after the activation function, `[B, time_embed_dim]`.
    pub(super) temb: &'a Tensor,
    /// The prompt's embeddings, `[B, S, cross_attention_dim]`.
    pub(super) context: &'a Tensor,
    /// What is computed again in the backward pass.
    pub(super) recomputed: &'a Recomputed,
}

/// A residual block, and its transformer where the level has attention.
#[derive(Debug)]
struct Layer {
    resnet: Recomputable<ResnetBlock2D>,
    attention: Option<Transformer2D>,
}

impl Layer {
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let attention = self.attention.iter().flat_map(Transformer2D::pieces);
        std::iter::once(self.resnet.piece()).chain(attention)
    }

    /// `x` goes through, with the channels of `skip` after its own where there is one.
    fn forward(
        &self,
        weights: &Weights,
        x: &Tensor,
        skip: Option<&Tensor>,
        conditions: Conditions<'_>,
    ) -> Tensor {
        let x = residual(
            &self.resnet,
            weights,
            &[x].into_iter().chain(skip).collect::<Vec<_>>(),
            conditions,
        );
        match &self.attention {
            Some(attention) => attention.forward(weights, &x, conditions),
            None => x,
        }
    }
}

/// Applies a residual block to feature maps, the channels of one after those of another.
fn residual(
    resnet: &Recomputable<ResnetBlock2D>,
    weights: &Weights,
    maps: &[&Tensor],
    conditions: Conditions<'_>,
) -> Tensor {
    let inputs: Vec<&Tensor> = [conditions.temb]
        .into_iter()
        .chain(maps.iter().copied())
        .collect();
    resnet.run(
        conditions.recomputed,
        weights,
        &inputs,
        |resnet, weights, inputs| {
            let (temb, maps) = (&inputs[0], &inputs[1..]);
            match maps {
                [x] => resnet.forward(weights, x, temb),
                _ => resnet.forward(weights, &Tensor::cat(maps, 1), temb),
            }
        },
    )
}

/// Declares a level's transformers and then its residual blocks, as diffusers orders them.
/// `inputs` gives each residual block's channels; all have `outputs` outputs.
fn layers(
    path: &Path<'_>,
    config: &UNetConfig,
    level: usize,
    inputs: &[i64],
    outputs: i64,
    attention: Option<&[TransformerShape]>,
) -> Vec<Layer> {
    let (attentions, resnets) = (path.sub("attentions"), path.sub("resnets"));
    let transformers: Vec<Option<Transformer2D>> = (0..inputs.len())
        .map(|i| {
            let shape = attention?.get(i)?;
            Some(Transformer2D::new(&attentions.sub(i), config, *shape, level))
        })
        .collect();
    let layer = |((i, &inputs), attention)| Layer {
        resnet: Recomputable::new(&resnets.sub(i), level, |path| {
            ResnetBlock2D::new(path, config, inputs, outputs, 1.0)
        }),
        attention,
    };
    inputs.iter().enumerate().zip(transformers).map(layer).collect()
}

/// A level of the way down. Every feature map it makes is kept for the way up.
#[derive(Debug)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Downsample2D>,
}

impl DownBlock {
    /// Level `i` of the config.
    pub(super) fn new(path: &Path<'_>, config: &UNetConfig, i: usize) -> Self {
        let outputs = config.block_out_channels[i];
        let first = config.block_out_channels[i.saturating_sub(1)];
        let mut inputs = vec![outputs; config.layers_per_block[i]];
        inputs[0] = first;
        let is_final = i == config.last_level();
        DownBlock {
            layers: layers(
                path,
                config,
                i,
                &inputs,
                outputs,
                config.down_attention(i).as_deref(),
            ),
            downsampler: (!is_final).then(|| {
                Downsample2D::new(
                    &path.sub("downsamplers").sub(0),
                    outputs,
                    config.downsample_padding,
                )
            }),
        }
    }

    /// What of it can be computed again.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.layers.iter().flat_map(Layer::pieces)
    }

    /// Takes `x` down one level, and pushes what it made on the way onto `skips`.
    pub(super) fn forward(
        &self,
        weights: &Weights,
        x: Tensor,
        conditions: Conditions<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        let mut x = x;
        for layer in &self.layers {
            x = layer.forward(weights, &x, None, conditions);
            skips.push(x.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(weights, &x);
            skips.push(x.shallow_clone());
        }
        x
    }
}

/// The lowest level: a residual block, and with attention a transformer and another residual block.
#[derive(Debug)]
pub(super) struct MidBlock {
    first: Recomputable<ResnetBlock2D>,
    rest: Option<(Transformer2D, Recomputable<ResnetBlock2D>)>,
}

impl MidBlock {
    /// The config's middle block, if it has one.
    pub(super) fn new(path: &Path<'_>, config: &UNetConfig) -> Option<Self> {
        let attention = match config.mid_block_type {
            MidBlockType::None => return None,
            MidBlockType::Plain => None,
            MidBlockType::CrossAttention => Some(config.mid_attention()),
        };
        let channels = attention.map_or_else(
            || config.block_out_channels[config.last_level()],
            |shape| shape.channels,
        );
        let level = config.last_level();
        let transformer =
            attention.map(|shape| Transformer2D::new(&path.sub("attentions").sub(0), config, shape, level));
        let resnet = |i: usize| {
            Recomputable::new(&path.sub("resnets").sub(i), level, |path| {
                ResnetBlock2D::new(path, config, channels, channels, config.mid_block_scale_factor)
            })
        };
        let first = resnet(0);
        Some(MidBlock {
            first,
            rest: transformer.map(|transformer| (transformer, resnet(1))),
        })
    }

    /// What of it can be computed again.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let of_rest = |(transformer, second): &(Transformer2D, Recomputable<_>)| {
            transformer.pieces().chain([second.piece()]).collect::<Vec<_>>()
        };
        let rest = self.rest.iter().flat_map(of_rest);
        std::iter::once(self.first.piece()).chain(rest)
    }

    /// Keeps the shape of `x`.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor, conditions: Conditions<'_>) -> Tensor {
        let x = residual(&self.first, weights, &[x], conditions);
        match &self.rest {
            Some((transformer, second)) => {
                let x = transformer.forward(weights, &x, conditions);
                residual(second, weights, &[&x], conditions)
            }
            None => x,
        }
    }
}

/// A level of the way up. Each residual block also takes a feature map of the way down.
#[derive(Debug)]
pub(super) struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Upsample2D>,
}

impl UpBlock {
    /// Level `i` of the config, counted from the lowest.
    pub(super) fn new(path: &Path<'_>, config: &UNetConfig, i: usize) -> Self {
        let levels = config.block_out_channels.len();
        let level = levels - 1 - i;
        let channels = &config.block_out_channels;
        let outputs = channels[level];
        let below = channels[(level + 1).min(levels - 1)];
        let skip_of_last = channels[level.saturating_sub(1)];
        let count = config.layers_per_block[level] + 1;
        let inputs: Vec<i64> = (0..count)
            .map(|k| {
                let skip = if k + 1 == count { skip_of_last } else { outputs };
                let hidden = if k == 0 { below } else { outputs };
                hidden + skip
            })
            .collect();
        UpBlock {
            layers: layers(
                path,
                config,
                level,
                &inputs,
                outputs,
                config.up_attention(i).as_deref(),
            ),
            upsampler: (level != 0).then(|| Upsample2D::new(&path.sub("upsamplers").sub(0), outputs)),
        }
    }

    /// What of it can be computed again.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.layers.iter().flat_map(Layer::pieces)
    }

    /// Takes `x` up one level with the last feature maps of `skips`, which it takes off. `Resize::ToSkip`
    /// enlarges to the size of the next of them instead of doubling.
    pub(super) fn forward(
        &self,
        weights: &Weights,
        x: Tensor,
        conditions: Conditions<'_>,
        skips: &mut Vec<Tensor>,
        resize: Resize,
    ) -> Tensor {
        let mut x = x;
        for layer in &self.layers {
            if let Some(skip) = skips.pop() {
                x = layer.forward(weights, &x, Some(&skip), conditions);
            }
        }
        if let Some(upsampler) = &self.upsampler {
            let size = match (resize, skips.last()) {
                (Resize::ToSkip, Some(skip)) => Some(super::resnet::spatial(skip).into()),
                _ => None,
            };
            x = upsampler.forward(weights, &x, size);
        }
        x
    }
}

/// How far an [`UpBlock`] enlarges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    /// To twice the height and width.
    Double,
    /// To the height and width of the next feature map of the way down: halving rounded somewhere.
    ToSkip,
}
