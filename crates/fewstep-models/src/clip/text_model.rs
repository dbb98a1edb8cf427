//! CLIP's text encoder (Radford et al., 2021): token ids to states that a UNet attends to.
//!
//! It knows ids, not text: that is the tokenizer's.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::config::{ClipTextConfig, Pooling};
use super::layer::EncoderLayer;
use crate::layers::{Bias, Embedding, LayerNorm, Linear};
use crate::params::{Layout, Weights};
use crate::weights::{Component, Key, ModelError};

/// Transformers' `CLIPTextModel`, or with a projection its `CLIPTextModelWithProjection`.
#[derive(Debug)]
pub struct ClipTextModel {
    config: ClipTextConfig,
    layout: Arc<Layout>,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
}

/// What the encoder says of a batch of texts, in the dtype of the weights.
#[derive(Debug)]
pub struct ClipOutput {
    /// The last layer's states after the final norm, `[B, S, hidden_size]`: what SD 1.x and 2.x use.
    pub last_hidden_state: Tensor,
    /// What enters the last layer, without the final norm, `[B, S, hidden_size]`: what SDXL uses.
    pub penultimate_hidden_state: Tensor,
    /// One state for the whole text, `[B, hidden_size]`; with a projection `text_embeds`,
    /// `[B, projection_dim]`.
    pub pooled: Tensor,
}

impl ClipTextModel {
    /// The network that the configuration describes.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(config: ClipTextConfig) -> Result<Self, ModelError> {
        config.check()?;
        let width = config.hidden_size;
        let (model, layout) = Layout::build(|root| {
            let path = root.sub("text_model");
            let embeddings = path.sub("embeddings");
            let rows = |name: &str, rows| Embedding::new(&embeddings.sub(name), rows, width);
            let layers = path.sub("encoder").sub("layers");
            ClipTextModel {
                token_embedding: rows("token_embedding", config.vocab_size),
                position_embedding: rows("position_embedding", config.max_position_embeddings),
                layers: (0..config.num_hidden_layers)
                    .map(|i| EncoderLayer::new(&layers.sub(i), &config))
                    .collect(),
                final_layer_norm: LayerNorm::new(&path.sub("final_layer_norm"), width, config.layer_norm_eps),
                text_projection: config
                    .projection_dim
                    .map(|to| Linear::new(&root.sub("text_projection"), width, to, Bias::No)),
                layout: Arc::default(),
                config,
            }
        });
        Ok(ClipTextModel { layout, ..model })
    }

    /// The network and its weights from a folder, in `kind` on `device`.
    ///
    /// # Errors
    /// A configuration that is not supported, or files that do not hold its weights.
    pub fn load(component: &Component, kind: Kind, device: Device) -> Result<(Self, Weights), ModelError> {
        let config = component.parse(ClipTextConfig::from_json)?;
        let model = ClipTextModel::new(config)?;
        let weights = component.load_with(&model.layout, kind, device, |name| model.key_map(name))?;
        Ok((model, weights))
    }

    /// Its options.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Its parameters, under the names that transformers writes.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What a stored tensor is to this network. Names may lack the prefix `text_model.`. Two tensors are
    /// known and not needed: `position_ids`, which old transformers stored though it only counts, and the
    /// projection in the file of a model that is used without one.
    pub fn key_map(&self, name: &str) -> Key {
        let inner = name.strip_prefix("text_model.").unwrap_or(name);
        match inner {
            "embeddings.position_ids" => Key::Ignored,
            "text_projection.weight" if self.text_projection.is_none() => Key::Ignored,
            "text_projection.weight" => Key::Is(inner.to_owned()),
            _ => Key::Is(format!("text_model.{inner}")),
        }
    }

    /// Encodes token ids `[B, S]` (i64), S at most `max_position_embeddings`.
    pub fn forward(&self, weights: &Weights, input_ids: &Tensor) -> ClipOutput {
        let mut x = self.token_embedding.forward(weights, input_ids)
            + self.position_embedding.first(weights, input_ids.size()[1]);
        let mut entering_last = x.shallow_clone();
        for layer in &self.layers {
            entering_last = x;
            x = layer.forward(weights, &entering_last);
        }
        let last_hidden_state = self.final_layer_norm.forward(weights, &x);
        let pooled = self.pool(&last_hidden_state, input_ids);
        let pooled = match &self.text_projection {
            Some(projection) => projection.forward(weights, &pooled),
            None => pooled,
        };
        ClipOutput {
            last_hidden_state,
            penultimate_hidden_state: entering_last,
            pooled,
        }
    }

    /// The state of the token that stands for the text: `[B, S, C] -> [B, C]`.
    fn pool(&self, states: &Tensor, input_ids: &Tensor) -> Tensor {
        // Of equal values, argmax takes the first: padding often repeats the end-of-text token.
        let place = match self.config.pooling {
            Pooling::HighestId => input_ids.argmax(1, true),
            Pooling::FirstOf(id) => input_ids.eq(id).to_kind(Kind::Int64).argmax(1, true),
        };
        let place = place
            .unsqueeze(-1)
            .expand([-1, -1, self.config.hidden_size], false);
        states.gather(1, &place, false).squeeze_dim(1)
    }

    /// Checks that ids can be encoded.
    ///
    /// # Errors
    /// Not i64 of two dimensions, a text that is too long, or an id outside the vocabulary.
    pub fn check_input_ids(&self, input_ids: &Tensor) -> Result<(), ModelError> {
        let longest = self.config.max_position_embeddings;
        let vocab = self.config.vocab_size;
        let fits =
            matches!(*input_ids.size(), [batch, length] if batch > 0 && (1..=longest).contains(&length));
        let what = "`input_ids` of CLIPTextModel";
        if !fits || input_ids.kind() != Kind::Int64 {
            let (kind, size) = (input_ids.kind(), input_ids.size());
            let problem =
                format!("is {kind:?} of shape {size:?}, but must be Int64 [B, S] with S from 1 to {longest}");
            return Err(ModelError::input(what, problem));
        }
        let (low, high) = (input_ids.min().int64_value(&[]), input_ids.max().int64_value(&[]));
        if low < 0 || high >= vocab {
            let problem = format!(
                "has ids from {low} to {high}, but the vocabulary ends at {}",
                vocab - 1
            );
            return Err(ModelError::input(what, problem));
        }
        Ok(())
    }
}
