//! What a CLIP text encoder's config.json says, and what of it we support.
//!
//! It knows options, not layers.

use serde_json::Value;

use crate::weights::{ModelError, Options};

const CONFIG: &str = "CLIPTextModel";

/// The function between the two linear maps of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x Phi(x)`: OpenCLIP.
    Gelu,
}

/// Which token's state stands for the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The token with the highest id: configurations from before transformers 4.31 give the end-of-text
    /// token as 2 whatever it is, and it has the highest id of CLIP's vocabulary.
    HighestId,
    /// The first token of this id.
    FirstOf(i64),
}

/// The options that shape a [`ClipTextModel`](super::ClipTextModel), by transformers' names.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipTextConfig {
    /// Tokens that have an embedding.
    pub vocab_size: i64,
    /// Width of a token's state.
    pub hidden_size: i64,
    /// Width between the two linear maps of a layer.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Heads of each attention.
    pub num_attention_heads: i64,
    /// Tokens of the longest text.
    pub max_position_embeddings: i64,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// The function between the two linear maps of a layer.
    pub hidden_act: Activation,
    /// Which token is pooled.
    pub pooling: Pooling,
    /// Width of `text_embeds` in a CLIPTextModelWithProjection; none in a plain CLIPTextModel.
    pub projection_dim: Option<i64>,
}

impl ClipTextConfig {
    /// Reads a config.json; what it leaves out takes transformers' default. Whether the model has a
    /// projection is what `architectures` says. Options that do not change what the network computes pass.
    ///
    /// # Errors
    /// An option of the wrong type, or one that is set and not supported.
    pub fn from_json(value: &Value) -> Result<Self, ModelError> {
        let options = Options::new(CONFIG, value)?;
        options.only("model_type", &["clip_text_model".into()])?;
        let architectures = options.texts("architectures")?.unwrap_or_default();
        let with_projection = architectures.contains(&"CLIPTextModelWithProjection");
        if let Some(other) = architectures
            .iter()
            .find(|name| !["CLIPTextModel", "CLIPTextModelWithProjection"].contains(name))
        {
            return Err(options.error(
                "architectures",
                format!(
                    "names {other}, but only CLIPTextModel and CLIPTextModelWithProjection are supported"
                ),
            ));
        }
        let hidden_act = match options.text("hidden_act")?.unwrap_or("quick_gelu") {
            "quick_gelu" => Activation::QuickGelu,
            "gelu" => Activation::Gelu,
            other => {
                let problem = format!("is {other:?}, but only \"quick_gelu\" or \"gelu\" is supported");
                return Err(options.error("hidden_act", problem));
            }
        };
        let pooling = match options.int("eos_token_id")?.unwrap_or(49407) {
            2 => Pooling::HighestId,
            id => Pooling::FirstOf(id),
        };
        let projection_dim = match with_projection {
            true => Some(options.count("projection_dim")?.unwrap_or(512)),
            false => None,
        };
        let config = ClipTextConfig {
            vocab_size: options.count("vocab_size")?.unwrap_or(49408),
            hidden_size: options.count("hidden_size")?.unwrap_or(512),
            intermediate_size: options.count("intermediate_size")?.unwrap_or(2048),
            num_hidden_layers: options.layers("num_hidden_layers")?.unwrap_or(12),
            num_attention_heads: options.count("num_attention_heads")?.unwrap_or(8),
            max_position_embeddings: options.count("max_position_embeddings")?.unwrap_or(77),
            layer_norm_eps: options.float("layer_norm_eps")?.unwrap_or(1e-5),
            hidden_act,
            pooling,
            projection_dim,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that no network can have.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        match width % heads {
            0 => Ok(()),
            _ => Err(ModelError::option(
                CONFIG,
                "num_attention_heads",
                format!("is {heads}, which does not divide the hidden_size of {width}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = ClipTextConfig::from_json(&json!({})).unwrap();
        assert_eq!(config.hidden_act, Activation::QuickGelu);
        assert_eq!(config.pooling, Pooling::FirstOf(49407));
        assert_eq!(config.projection_dim, None);
        let value = json!({"architectures": ["CLIPTextModelWithProjection"], "eos_token_id": 2});
        let config = ClipTextConfig::from_json(&value).unwrap();
        assert_eq!(
            (config.projection_dim, config.pooling),
            (Some(512), Pooling::HighestId)
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (config, named) in [
            (json!({"hidden_act": "relu"}), "hidden_act"),
            (
                json!({"hidden_size": 10, "num_attention_heads": 3}),
                "num_attention_heads",
            ),
            (json!({"architectures": ["T5EncoderModel"]}), "T5EncoderModel"),
            (json!({"eos_token_id": [1, 2]}), "eos_token_id"),
            (json!({"model_type": "clip", "text_config": {}}), "model_type"),
        ] {
            let error = ClipTextConfig::from_json(&config).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
