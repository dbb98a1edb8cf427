//! The configs of text encoders and tokenizers.

use serde_json::{Value, json};
use tch::Kind;

use super::{Arch, Family, Size};

/// A text encoder and its tokenizer.
#[derive(Debug)]
pub(super) struct TextPair {
    /// The encoder's folder.
    pub(super) encoder: &'static str,
    /// The tokenizer's folder.
    pub(super) tokenizer: &'static str,
    /// The encoder's config.json.
    pub(super) config: Value,
    /// Tokens in the vocabulary.
    pub(super) vocab_size: usize,
    /// The token that fills texts up.
    pub(super) pad_token: &'static str,
}

/// The width and depth of a text encoder.
struct Shape {
    hidden_size: i64,
    layers: i64,
    heads: i64,
    projection_dim: i64,
}

/// The text encoders of an architecture, in order.
pub(super) fn pairs(arch: Arch, dtype: Kind) -> Vec<TextPair> {
    // CLIP ViT-L of OpenAI; OpenCLIP ViT-H without its last layer; OpenCLIP ViT-bigG with its projection.
    let shape = |hidden_size, layers, heads, projection_dim| Shape {
        hidden_size,
        layers,
        heads,
        projection_dim,
    };
    let (vit_l, vit_h, vit_g) = match arch.size() {
        Size::Full => (
            shape(768, 12, 12, 768),
            shape(1024, 23, 16, 512),
            shape(1280, 32, 20, 1280),
        ),
        Size::Tiny => (shape(32, 2, 2, 32), shape(48, 3, 3, 48), shape(48, 2, 3, 40)),
    };
    let first = |shape, hidden_act, pad_token| {
        pair(
            arch,
            dtype,
            ["text_encoder", "tokenizer", "CLIPTextModel"],
            shape,
            hidden_act,
            pad_token,
        )
    };
    match arch.family() {
        Family::Sd1 => vec![first(vit_l, "quick_gelu", END)],
        Family::Sd2 => vec![first(vit_h, "gelu", FIRST_BYTE)],
        Family::Xl => {
            let names = ["text_encoder_2", "tokenizer_2", "CLIPTextModelWithProjection"];
            vec![
                first(vit_l, "quick_gelu", END),
                pair(arch, dtype, names, vit_g, "gelu", FIRST_BYTE),
            ]
        }
    }
}

/// Begins every text.
pub(super) const START: &str = "<|startoftext|>";
/// Ends every text.
pub(super) const END: &str = "<|endoftext|>";
/// The token with id 0, with which OpenCLIP's texts are filled up.
const FIRST_BYTE: &str = "!";

fn pair(
    arch: Arch,
    dtype: Kind,
    [encoder, tokenizer, class]: [&'static str; 3],
    shape: Shape,
    hidden_act: &str,
    pad_token: &'static str,
) -> TextPair {
    let vocab_size = if arch.size() == Size::Full { 49408 } else { 1000 };
    let config = json!({
        "architectures": [class],
        "attention_dropout": 0.0,
        "bos_token_id": vocab_size - 2,
        "dtype": match dtype {
            Kind::BFloat16 => "bfloat16",
            Kind::Half => "float16",
            _ => "float32",
        },
        "eos_token_id": vocab_size - 1,
        "hidden_act": hidden_act,
        "hidden_size": shape.hidden_size,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 4 * shape.hidden_size,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": if pad_token == END { vocab_size - 1 } else { 0 },
        "projection_dim": shape.projection_dim,
        "vocab_size": vocab_size,
    });
    TextPair {
        encoder,
        tokenizer,
        config,
        vocab_size,
        pad_token,
    }
}

/// The special_tokens_map.json of a tokenizer.
pub(super) fn special_tokens(pad_token: &str) -> Value {
    let special = |content: &str| {
        json!({
            "content": content,
            "lstrip": false,
            "normalized": true,
            "rstrip": false,
            "single_word": false,
        })
    };
    json!({
        "bos_token": special(START),
        "eos_token": special(END),
        "pad_token": pad_token,
        "unk_token": special(END),
    })
}

/// The tokenizer_config.json of a tokenizer.
pub(super) fn tokenizer_config(pad_token: &str) -> Value {
    json!({
        "add_prefix_space": false,
        "bos_token": START,
        "do_lower_case": true,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": pad_token,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    })
}
