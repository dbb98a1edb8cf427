//! Transformers over the places of a feature map, which also attend to the prompt.

use tch::{Kind, Tensor};

use super::blocks::Conditions;
use super::config::UNetConfig;
use super::recompute::{Piece, Recomputable};
use super::resnet::spatial;
use crate::layers::{Bias, Conv2d, GroupNorm, LayerNorm, Linear};
use crate::params::{Path, Weights};

/// Epsilon of a transformer's group norm, whatever the config's `norm_eps` says.
const GROUP_NORM_EPS: f64 = 1e-6;
/// Epsilon of its layer norms.
const LAYER_NORM_EPS: f64 = 1e-5;

/// What a transformer needs to know beyond the UNet's config: where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerShape {
    /// Channels of the feature map.
    pub(super) channels: i64,
    /// Number of attention heads.
    pub(super) heads: i64,
    /// Number of transformer blocks.
    pub(super) blocks: usize,
    /// Width of the prompt's embeddings.
    pub(super) cross_attention_dim: i64,
    /// Whether the first attention of each block looks at the prompt instead of the feature map.
    pub(super) only_cross_attention: bool,
}

impl TransformerShape {
    /// The width inside the transformer: the channels, rounded down to a multiple of the heads.
    fn inner(&self) -> i64 {
        self.heads * (self.channels / self.heads)
    }
}

/// A norm, a projection in, transformer blocks, and a projection out, added to the input.
#[derive(Debug)]
pub(super) struct Transformer2D {
    norm: GroupNorm,
    proj_in: Projection,
    transformer_blocks: Vec<Recomputable<BasicTransformerBlock>>,
    proj_out: Projection,
}

/// The same arithmetic, stored as a linear map (SD 2, SDXL) or as a 1x1 convolution (SD 1).
#[derive(Debug)]
enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

impl Projection {
    fn new(path: &Path<'_>, config: &UNetConfig, inputs: i64, outputs: i64) -> Self {
        if config.use_linear_projection {
            Projection::Linear(Linear::new(path, inputs, outputs, Bias::Yes))
        } else {
            Projection::Conv(Conv2d::same(path, inputs, outputs, 1))
        }
    }
}

impl Transformer2D {
    /// `[B, channels, H, W]`, prompt `[B, S, cross_attention_dim]` `-> [B, channels, H, W]`, at `level`.
    pub(super) fn new(path: &Path<'_>, config: &UNetConfig, shape: TransformerShape, level: usize) -> Self {
        let (channels, inner) = (shape.channels, shape.inner());
        let blocks = path.sub("transformer_blocks");
        Transformer2D {
            norm: GroupNorm::new(
                &path.sub("norm"),
                config.norm_num_groups,
                channels,
                GROUP_NORM_EPS,
            ),
            proj_in: Projection::new(&path.sub("proj_in"), config, channels, inner),
            transformer_blocks: (0..shape.blocks)
                .map(|i| {
                    let new = |path: &Path<'_>| BasicTransformerBlock::new(path, config, shape);
                    Recomputable::new(&blocks.sub(i), level, new)
                })
                .collect(),
            proj_out: Projection::new(&path.sub("proj_out"), config, inner, channels),
        }
    }

    /// What of it can be computed again.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.transformer_blocks.iter().map(Recomputable::piece)
    }

    /// Applies the transformer.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor, conditions: Conditions<'_>) -> Tensor {
        let (height, width) = spatial(x);
        let hidden = self.norm.forward(weights, x);
        let mut hidden = match &self.proj_in {
            Projection::Linear(linear) => linear.forward(weights, &to_rows(&hidden)),
            Projection::Conv(conv) => to_rows(&conv.forward(weights, &hidden)),
        };
        for block in &self.transformer_blocks {
            let inputs = [&hidden, conditions.context];
            hidden = block.run(
                conditions.recomputed,
                weights,
                &inputs,
                |block, weights, inputs| block.forward(weights, &inputs[0], &inputs[1]),
            );
        }
        // A map that came in with its channels outermost in memory leaves so too: mixing the two orders
        // would make every later operation slow.
        let to_map = |rows: Tensor| {
            let map = rows.unflatten(1, [height, width]).permute([0, 3, 1, 2]);
            if x.is_contiguous() { map.contiguous() } else { map }
        };
        let hidden = match &self.proj_out {
            Projection::Linear(linear) => to_map(linear.forward(weights, &hidden)),
            Projection::Conv(conv) => conv.forward(weights, &to_map(hidden)),
        };
        hidden + x
    }
}

/// `[B, C, H, W] -> [B, H W, C]`, contiguous: one row a place.
fn to_rows(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).flatten(1, 2).contiguous()
}

/// Attention among the places, attention to the prompt, and a gated feed-forward; each after a layer norm,
/// each added to its input.
#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    only_cross_attention: bool,
}

impl BasicTransformerBlock {
    fn new(path: &Path<'_>, config: &UNetConfig, shape: TransformerShape) -> Self {
        let inner = shape.inner();
        let norm = |leaf| LayerNorm::new(&path.sub(leaf), inner, LAYER_NORM_EPS);
        let attention = |leaf, keys| Attention::new(&path.sub(leaf), config, inner, keys, shape.heads);
        let first_keys = if shape.only_cross_attention {
            shape.cross_attention_dim
        } else {
            inner
        };
        BasicTransformerBlock {
            norm1: norm("norm1"),
            attn1: attention("attn1", first_keys),
            norm2: norm("norm2"),
            attn2: attention("attn2", shape.cross_attention_dim),
            norm3: norm("norm3"),
            ff: FeedForward::new(&path.sub("ff"), inner),
            only_cross_attention: shape.only_cross_attention,
        }
    }

    fn forward(&self, weights: &Weights, x: &Tensor, context: &Tensor) -> Tensor {
        let normed = self.norm1.forward(weights, x);
        let keys = if self.only_cross_attention {
            context
        } else {
            &normed
        };
        let x = self.attn1.forward(weights, &normed, keys) + x;
        let x = self
            .attn2
            .forward(weights, &self.norm2.forward(weights, &x), context)
            + x;
        self.ff.forward(weights, &self.norm3.forward(weights, &x)) + x
    }
}

/// Multi-head attention. Only its output projection has a bias.
#[derive(Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
    upcast: bool,
}

impl Attention {
    fn new(path: &Path<'_>, config: &UNetConfig, width: i64, keys: i64, heads: i64) -> Self {
        let linear = |leaf, inputs| Linear::new(&path.sub(leaf), inputs, width, Bias::No);
        Attention {
            to_q: linear("to_q", width),
            to_k: linear("to_k", keys),
            to_v: linear("to_v", keys),
            to_out: Linear::new(&path.sub("to_out").sub(0), width, width, Bias::Yes),
            heads,
            upcast: config.upcast_attention,
        }
    }

    /// Queries from `x` `[B, N, width]`, keys and values from `context` `[B, S, keys]`.
    fn forward(&self, weights: &Weights, x: &Tensor, context: &Tensor) -> Tensor {
        let kind = x.kind();
        let heads = |t: Tensor| {
            let t = if self.upcast { t.to_kind(Kind::Float) } else { t };
            t.unflatten(2, [self.heads, -1]).transpose(1, 2)
        };
        let q = heads(self.to_q.forward(weights, x));
        let k = heads(self.to_k.forward(weights, context));
        let v = heads(self.to_v.forward(weights, context));
        let mixed =
            Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
        self.to_out
            .forward(weights, &mixed.transpose(1, 2).flatten(2, 3).to_kind(kind))
    }
}

/// A gated feed-forward (GEGLU): one half of a wide projection times the GELU of the other, projected back.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(path: &Path<'_>, width: i64) -> Self {
        let net = path.sub("net");
        FeedForward {
            proj: Linear::new(&net.sub(0).sub("proj"), width, 8 * width, Bias::Yes),
            out: Linear::new(&net.sub(2), 4 * width, width, Bias::Yes),
        }
    }

    fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let halves = self.proj.forward(weights, x).chunk(2, -1);
        self.out.forward(weights, &(&halves[0] * halves[1].gelu("none")))
    }
}
