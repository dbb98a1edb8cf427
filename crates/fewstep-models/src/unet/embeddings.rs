//! Sinusoids of timesteps and picture sizes, and the small network that turns them into a time embedding.

use tch::{Kind, Tensor};

use super::Activation;
use crate::layers::{Bias, Linear};
use crate::params::{Path, Weights};

/// Sines and cosines of a number at frequencies from 1 down to about 1/10000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinusoid {
    /// The length of the embedding. An odd one ends with a zero.
    pub dim: i64,
    /// Whether the cosines come first.
    pub flip_sin_to_cos: bool,
    /// How much shorter than `dim / 2` the row of frequencies is taken to be when it is spread.
    pub freq_shift: f64,
}

impl Sinusoid {
    /// The embeddings of `values` `[N]` (any dtype): `[N, dim]` in f32.
    ///
    /// With `half = dim / 2`, frequency j is `exp(-ln(10000) j / (half - freq_shift))`. All operations are
    /// f32 and in diffusers' order: a value of 1000 turns one rounding of a frequency into 1e-4, so only the
    /// same roundings give the same embedding.
    pub fn embed(&self, values: &Tensor) -> Tensor {
        let half = self.dim / 2;
        let exponent = Tensor::arange(half, (Kind::Float, values.device())) * -10_000f64.ln();
        let frequencies = (exponent / (half as f64 - self.freq_shift)).exp();
        let angles = values.to_kind(Kind::Float).unsqueeze(1) * frequencies;
        let (sin, cos) = (angles.sin(), angles.cos());
        let halves = if self.flip_sin_to_cos {
            [cos, sin]
        } else {
            [sin, cos]
        };
        let embedding = Tensor::cat(&halves, 1);
        match self.dim % 2 {
            0 => embedding,
            _ => embedding.constant_pad_nd([0, 1]),
        }
    }
}

/// Two linear maps with an activation between them, from a sinusoid to a time embedding; with `cond_proj`, a
/// condition (the guidance embedding of a consistency model) is added to the sinusoid first.
#[derive(Debug)]
pub(super) struct TimestepEmbedding {
    linear_1: Linear,
    cond_proj: Option<Linear>,
    linear_2: Linear,
    act: Activation,
    post_act: Option<Activation>,
}

impl TimestepEmbedding {
    /// From `inputs` numbers to `outputs`; `cond_dim` is the length of the condition, if there may be one.
    pub(super) fn new(
        path: &Path<'_>,
        inputs: i64,
        outputs: i64,
        cond_dim: Option<i64>,
        act: Activation,
        post_act: Option<Activation>,
    ) -> Self {
        TimestepEmbedding {
            linear_1: Linear::new(&path.sub("linear_1"), inputs, outputs, Bias::Yes),
            cond_proj: cond_dim.map(|dim| Linear::new(&path.sub("cond_proj"), dim, inputs, Bias::No)),
            linear_2: Linear::new(&path.sub("linear_2"), outputs, outputs, Bias::Yes),
            act,
            post_act,
        }
    }

    /// `[B, inputs] -> [B, outputs]`, with an optional condition `[B, cond_dim]`.
    pub(super) fn forward(&self, weights: &Weights, x: &Tensor, condition: Option<&Tensor>) -> Tensor {
        let conditioned = match (&self.cond_proj, condition) {
            (Some(cond_proj), Some(condition)) => x + cond_proj.forward(weights, condition),
            _ => x.shallow_clone(),
        };
        let hidden = self.act.apply(&self.linear_1.forward(weights, &conditioned));
        let embedding = self.linear_2.forward(weights, &hidden);
        self.post_act
            .map_or(embedding.shallow_clone(), |act| act.apply(&embedding))
    }
}
