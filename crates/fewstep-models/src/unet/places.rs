//! What follows from a UNet's options taken together: where its transformers stand, and whether the whole can
//! be built.

use super::attention::TransformerShape;
use super::config::{BlockType, MidBlockType, NAME, UNetConfig};
use crate::weights::ModelError;

impl UNetConfig {
    /// Length of the time embedding that residual blocks take.
    pub fn time_embed_dim(&self) -> i64 {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// Width of the prompt's embeddings, if there is attention to a prompt anywhere.
    pub fn context_dim(&self) -> Option<i64> {
        self.context_dims().next()
    }

    /// The widths that the transformers want of the prompt's embeddings.
    fn context_dims(&self) -> impl Iterator<Item = i64> {
        let attends = |level: usize| {
            let (last, attention) = (self.last_level(), BlockType::CrossAttention);
            self.down_block_types[level] == attention
                || self.up_block_types[last - level] == attention
                || (level == last && self.mid_block_type == MidBlockType::CrossAttention)
        };
        let levels = 0..self.block_out_channels.len();
        levels
            .filter(move |&level| attends(level))
            .map(|level| self.cross_attention_dim[level])
    }

    /// The transformers of level `i` of the way down, if it has any.
    pub(super) fn down_attention(&self, i: usize) -> Option<Vec<TransformerShape>> {
        let blocks = &self.transformer_layers_per_block[i];
        let with = self.down_block_types[i] == BlockType::CrossAttention;
        with.then(|| blocks.iter().map(|&n| self.transformer(i, n)).collect())
    }

    /// The transformers of level `i` of the way up, counted from the lowest, if it has any.
    pub(super) fn up_attention(&self, i: usize) -> Option<Vec<TransformerShape>> {
        let level = self.last_level() - i;
        let blocks = &self.reverse_transformer_layers_per_block[i];
        let with = self.up_block_types[i] == BlockType::CrossAttention;
        with.then(|| blocks.iter().map(|&n| self.transformer(level, n)).collect())
    }

    /// The transformer of the lowest level, as deep as the first of the last level of the way down. It looks
    /// at the feature map even where `only_cross_attention` says otherwise of all levels.
    pub(super) fn mid_attention(&self) -> TransformerShape {
        let last = self.last_level();
        TransformerShape {
            only_cross_attention: false,
            ..self.transformer(last, self.transformer_layers_per_block[last][0])
        }
    }

    /// The index of the lowest level.
    pub(super) fn last_level(&self) -> usize {
        self.block_out_channels.len() - 1
    }

    fn transformer(&self, level: usize, blocks: usize) -> TransformerShape {
        TransformerShape {
            channels: self.block_out_channels[level],
            heads: self.num_attention_heads[level],
            blocks,
            cross_attention_dim: self.cross_attention_dim[level],
            only_cross_attention: self.only_cross_attention[level],
        }
    }

    /// Refuses options that are possible each by itself, and not together.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let refuse = |option, problem| Err(ModelError::option(NAME, option, problem));
        let groups = self.norm_num_groups;
        let levels = self.block_out_channels.iter().zip(&self.num_attention_heads);
        for (level, (channels, heads)) in levels.enumerate() {
            if channels % groups != 0 {
                let problem = format!(
                    "has {channels} at level {level}, which norm_num_groups ({groups}) does not divide"
                );
                return refuse("block_out_channels", problem);
            }
            if heads > channels {
                let problem =
                    format!("asks for {heads} heads at level {level}, which has {channels} channels");
                return refuse("attention_head_dim", problem);
            }
        }
        if (self.block_out_channels[0] / 2) as f64 == self.freq_shift {
            let problem = format!(
                "is {}, which leaves no frequencies for a sinusoid",
                self.freq_shift
            );
            return refuse("freq_shift", problem);
        }
        if self.context_dims().any(|dim| Some(dim) != self.context_dim()) {
            let problem = format!(
                "is {:?}, but one prompt can have one width only",
                self.cross_attention_dim
            );
            return refuse("cross_attention_dim", problem);
        }
        match self.text_time {
            Some(text_time) if text_time.input_dim <= text_time.time_embed_dim => {
                let problem = format!(
                    "is {}, which leaves no room for a pooled prompt beside sinusoids of {}",
                    text_time.input_dim, text_time.time_embed_dim
                );
                refuse("projection_class_embeddings_input_dim", problem)
            }
            _ => Ok(()),
        }
    }
}
