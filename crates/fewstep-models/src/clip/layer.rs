//! One layer of the text encoder: causal self-attention and a two-layer perceptron, each with its norm before
//! and its residual around.

use tch::Tensor;

use super::config::{Activation, ClipTextConfig};
use crate::layers::{Bias, LayerNorm, Linear};
use crate::params::{Path, Weights};

/// `[B, S, hidden_size] -> [B, S, hidden_size]`.
#[derive(Debug)]
pub(super) struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
}

impl EncoderLayer {
    pub(super) fn new(path: &Path<'_>, config: &ClipTextConfig) -> Self {
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::new(&path.sub(name), width, config.layer_norm_eps);
        let mlp = path.sub("mlp");
        EncoderLayer {
            self_attn: Attention::new(&path.sub("self_attn"), config),
            layer_norm1: norm("layer_norm1"),
            fc1: Linear::new(&mlp.sub("fc1"), width, wide, Bias::Yes),
            activation: config.hidden_act,
            fc2: Linear::new(&mlp.sub("fc2"), wide, width, Bias::Yes),
            layer_norm2: norm("layer_norm2"),
        }
    }

    pub(super) fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        let normed = self.layer_norm1.forward(weights, x);
        let x = x + self.self_attn.forward(weights, &normed);
        let normed = self.layer_norm2.forward(weights, &x);
        let wide = self.fc1.forward(weights, &normed);
        let wide = match self.activation {
            Activation::QuickGelu => &wide * (&wide * 1.702).sigmoid(),
            Activation::Gelu => wide.gelu("none"),
        };
        x + self.fc2.forward(weights, &wide)
    }
}

/// Self-attention in which a token sees itself and those before it.
#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(path: &Path<'_>, config: &ClipTextConfig) -> Self {
        let width = config.hidden_size;
        let linear = |name: &str| Linear::new(&path.sub(name), width, width, Bias::Yes);
        Attention {
            q_proj: linear("q_proj"),
            k_proj: linear("k_proj"),
            v_proj: linear("v_proj"),
            out_proj: linear("out_proj"),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, weights: &Weights, x: &Tensor) -> Tensor {
        // [B, S, heads * d] -> [B, heads, S, d]
        let split = |linear: &Linear| {
            linear
                .forward(weights, x)
                .unflatten(2, [self.heads, -1])
                .transpose(1, 2)
        };
        let (q, k, v) = (split(&self.q_proj), split(&self.k_proj), split(&self.v_proj));
        let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, None, false);
        self.out_proj
            .forward(weights, &mixed.transpose(1, 2).flatten(2, 3))
    }
}
