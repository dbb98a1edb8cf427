//! The names that a UNet's config.json may hold, and the options that fewstep knows and does not support.

use serde_json::{Map, Value, json};

use super::config::NAME;
use crate::weights::{ModelError, Options};

/// Options that [`super::UNetConfig`] reads and to which diffusers gives a default other than `null`; here
/// `null` would mean something else than leaving them out.
const SET: &[&str] = &[
    "in_channels",
    "out_channels",
    "freq_shift",
    "down_block_types",
    "up_block_types",
    "only_cross_attention",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "mid_block_scale_factor",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
    "transformer_layers_per_block",
    "attention_head_dim",
    "resnet_time_scale_shift",
    "conv_in_kernel",
    "conv_out_kernel",
];

/// Options that may be `null`: it says there is none, and of flags that they are false (SDXL's own file has
/// `"upcast_attention": null`).
const NULLABLE: &[&str] = &[
    "center_input_sample",
    "flip_sin_to_cos",
    "use_linear_projection",
    "upcast_attention",
    "sample_size",
    "mid_block_type",
    "reverse_transformer_layers_per_block",
    "num_attention_heads",
    "addition_embed_type",
    "addition_time_embed_dim",
    "time_embedding_dim",
    "time_embedding_act_fn",
    "timestep_post_act",
    "time_cond_proj_dim",
    "projection_class_embeddings_input_dim",
];

/// Keys that say nothing about the network built here: the head count of an `addition_embed_type` that is
/// not supported, what diffusers' EMA leaves in the config of the UNets it saves, and what other libraries
/// note.
const METADATA: &[&str] = &[
    "addition_embed_type_num_heads",
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
];

/// Options of diffusers that are supported at one value only: no Stable Diffusion 1.x, 2.x or XL file sets
/// another.
fn fixed() -> [(&'static str, Value); 14] {
    [
        ("dropout", json!(0.0)),
        ("encoder_hid_dim", Value::Null),
        ("encoder_hid_dim_type", Value::Null),
        ("dual_cross_attention", json!(false)),
        ("class_embed_type", Value::Null),
        ("num_class_embeds", Value::Null),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_out_scale_factor", json!(1.0)),
        ("time_embedding_type", json!("positional")),
        ("attention_type", json!("default")),
        ("class_embeddings_concat", json!(false)),
        ("mid_block_only_cross_attention", json!(false)),
        ("cross_attention_norm", Value::Null),
        ("_class_name", json!(NAME)),
    ]
}

/// Refuses what cannot be built, by name.
pub(super) fn check(json: &Map<String, Value>, options: &Options<'_>) -> Result<(), ModelError> {
    let fixed = fixed();
    for (key, value) in json {
        let key = key.as_str();
        if let Some((_, only)) = fixed.iter().find(|(name, _)| *name == key) {
            if !value.is_null() && !same(value, only) {
                return Err(options.error(key, format!("is {value}, but only {only} is supported")));
            }
        } else if SET.contains(&key) {
            if value.is_null() {
                return Err(options.error(key, "is null, but must have a value"));
            }
        } else if !(NULLABLE.contains(&key) || METADATA.contains(&key) || key.starts_with('_')) {
            // Libraries write options they do not use as null or false.
            if !(value.is_null() || *value == json!(false)) {
                let near = nearest(key, fixed.iter().map(|(name, _)| *name));
                return Err(options.error(
                    key,
                    format!("is {value}, but there is no such option (the nearest is `{near}`)"),
                ));
            }
        }
    }
    Ok(())
}

/// Equality that takes 1 and 1.0 for the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The known option whose name takes the fewest edits to become `key`.
fn nearest<'a>(key: &str, fixed: impl Iterator<Item = &'a str>) -> &'a str {
    let known = SET.iter().chain(NULLABLE).copied().chain(fixed);
    known
        .min_by_key(|name| strsim::damerau_levenshtein(key, name))
        .unwrap_or("")
}
