//! The UNet as a whole: `UNet2DConditionModel` in diffusers' words.

use std::sync::Arc;

use tch::Tensor;

use super::blocks::{Conditions, DownBlock, MidBlock, Resize, UpBlock};
use super::config::UNetConfig;
use super::embeddings::{Sinusoid, TimestepEmbedding};
use super::input::{self, UNetInput};
use super::recompute::{Piece, Recomputed};
use crate::layers::{Bias, Conv2d, GroupNorm};
use crate::params::{Layout, Path, Weights};
use crate::weights::ModelError;

/// The network that predicts noise, clean latents or velocity from noisy latents, a timestep and a prompt.
#[derive(Debug)]
pub struct UNet2DConditionModel {
    config: UNetConfig,
    layout: Arc<Layout>,
    modules: Modules,
}

#[derive(Debug)]
struct Modules {
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TimestepEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Modules {
    /// Declares the modules in the order of diffusers' files.
    fn new(root: &Path<'_>, config: &UNetConfig) -> Self {
        let first = config.block_out_channels[0];
        let conv = |leaf, inputs, outputs, kernel: i64| {
            Conv2d::new(
                &root.sub(leaf),
                inputs,
                outputs,
                kernel,
                1,
                (kernel - 1) / 2,
                Bias::Yes,
            )
        };
        let levels = config.block_out_channels.len();
        let conv_in = conv("conv_in", config.in_channels, first, config.conv_in_kernel);
        let time_embedding = TimestepEmbedding::new(
            &root.sub("time_embedding"),
            first,
            config.time_embed_dim(),
            config.time_cond_proj_dim,
            config.act_fn,
            config.timestep_post_act,
        );
        let add_embedding = config.text_time.map(|text_time| {
            let (path, outputs) = (root.sub("add_embedding"), config.time_embed_dim());
            // This one is SiLU whatever the config's `act_fn` says.
            TimestepEmbedding::new(
                &path,
                text_time.input_dim,
                outputs,
                None,
                super::Activation::Silu,
                None,
            )
        });
        let (down, up) = (root.sub("down_blocks"), root.sub("up_blocks"));
        Modules {
            conv_in,
            time_embedding,
            add_embedding,
            down_blocks: (0..levels)
                .map(|i| DownBlock::new(&down.sub(i), config, i))
                .collect(),
            up_blocks: (0..levels).map(|i| UpBlock::new(&up.sub(i), config, i)).collect(),
            mid_block: MidBlock::new(&root.sub("mid_block"), config),
            conv_norm_out: GroupNorm::new(
                &root.sub("conv_norm_out"),
                config.norm_num_groups,
                first,
                config.norm_eps,
            ),
            conv_out: conv("conv_out", first, config.out_channels, config.conv_out_kernel),
        }
    }
}

impl UNet2DConditionModel {
    /// The network of this config.
    ///
    /// # Errors
    /// Options that contradict each other, like channels that the groups of a norm do not divide.
    pub fn new(config: UNetConfig) -> Result<Self, ModelError> {
        config.check()?;
        let (modules, layout) = Layout::build(|root| Modules::new(root, &config));
        Ok(UNet2DConditionModel {
            config,
            layout,
            modules,
        })
    }

    /// The config it was built from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Its parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The pieces that can be computed again in the backward pass, in the order in which they run.
    pub fn pieces(&self) -> Vec<Piece> {
        let modules = &self.modules;
        let down = modules.down_blocks.iter().flat_map(DownBlock::pieces);
        let mid = modules.mid_block.iter().flat_map(MidBlock::pieces);
        let up = modules.up_blocks.iter().flat_map(UpBlock::pieces);
        down.chain(mid).chain(up).collect()
    }

    /// Whether `input` fits this network.
    ///
    /// # Errors
    /// A tensor is missing, or has another shape or dtype than the config wants; the sentence says which.
    pub fn check_input(&self, input: &UNetInput<'_>) -> Result<(), ModelError> {
        input::check(&self.config, input)
    }

    /// One evaluation: `[B, out_channels, h, w]` in the dtype of the weights.
    ///
    /// Inputs are cast to that dtype here; the sinusoids of timesteps and sizes are f32 until then. In a rehearsal
    /// (hollow weights) those two alone are real.
    ///
    /// # Panics
    /// Where LibTorch does, if the input does not pass [`UNet2DConditionModel::check_input`].
    pub fn forward(&self, weights: &Weights, input: &UNetInput<'_>) -> Tensor {
        self.forward_recomputing(weights, input, &Recomputed::none())
    }

    /// The same; where gradients are recorded, the pieces that `recomputed` names keep their inputs only.
    ///
    /// # Panics
    /// As [`UNet2DConditionModel::forward`].
    pub fn forward_recomputing(
        &self,
        weights: &Weights,
        input: &UNetInput<'_>,
        recomputed: &Recomputed,
    ) -> Tensor {
        let kind = weights.kind();
        let modules = &self.modules;
        let temb = self.time_embedding(weights, input);
        let conditions = Conditions {
            temb: &temb,
            context: &input.encoder_hidden_states.to_kind(kind),
            recomputed,
        };

        let mut sample = input.sample.to_kind(kind);
        if self.config.center_input_sample {
            sample = sample * 2.0 - 1.0;
        }
        let mut hidden = modules.conv_in.forward(weights, &sample);
        let mut skips = vec![hidden.shallow_clone()];
        for block in &modules.down_blocks {
            hidden = block.forward(weights, hidden, conditions, &mut skips);
        }
        if let Some(block) = &modules.mid_block {
            hidden = block.forward(weights, &hidden, conditions);
        }
        let resize = self.resize(&sample);
        for block in &modules.up_blocks {
            hidden = block.forward(weights, hidden, conditions, &mut skips, resize);
        }
        let hidden = self
            .config
            .act_fn
            .apply(&modules.conv_norm_out.forward(weights, &hidden));
        modules.conv_out.forward(weights, &hidden)
    }

    /// The time embedding with all that is added to it, after the activation that every residual block
    /// applies first: `[B, time_embed_dim]`.
    fn time_embedding(&self, weights: &Weights, input: &UNetInput<'_>) -> Tensor {
        let (config, modules) = (&self.config, &self.modules);
        let condition = input.timestep_cond.map(|cond| weights.cast(cond));
        let sinusoid = self.sinusoid(config.block_out_channels[0]).embed(input.timestep);
        let mut temb = modules
            .time_embedding
            .forward(weights, &weights.cast(&sinusoid), condition.as_ref());
        if let (Some(add_embedding), Some(text_time), Some(added)) =
            (&modules.add_embedding, &config.text_time, &input.added)
        {
            let ids = self
                .sinusoid(text_time.time_embed_dim)
                .embed(&added.time_ids.flatten(0, -1));
            let ids = ids.reshape([added.time_ids.size()[0], -1]);
            let both = Tensor::cat(&[weights.cast(added.text_embeds), weights.cast(&ids)], 1);
            temb = add_embedding.forward(weights, &both, None) + temb;
        }
        if let Some(act) = config.time_embedding_act_fn {
            temb = act.apply(&temb);
        }
        config.act_fn.apply(&temb)
    }

    fn sinusoid(&self, dim: i64) -> Sinusoid {
        Sinusoid {
            dim,
            flip_sin_to_cos: self.config.flip_sin_to_cos,
            freq_shift: self.config.freq_shift,
        }
    }

    /// Doubling leads back to the sizes of the way down only where all halvings came out even.
    fn resize(&self, sample: &Tensor) -> Resize {
        let factor = 1 << (self.config.block_out_channels.len() - 1);
        let size = sample.size();
        if size[2] % factor == 0 && size[3] % factor == 0 {
            Resize::Double
        } else {
            Resize::ToSkip
        }
    }
}
