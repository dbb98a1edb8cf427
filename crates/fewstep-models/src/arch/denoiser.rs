//! The configs of UNet and VAE.

use serde_json::{Map, Value, json};

use super::{Arch, Family, Size};

/// The config.json of the UNet.
pub(super) fn unet(arch: Arch) -> Value {
    let family = match arch.family() {
        Family::Sd1 => json!({
            "down_block_types": [
                "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"
            ],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        }),
        Family::Sd2 => json!({
            "down_block_types": [
                "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"
            ],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "use_linear_projection": true,
            "upcast_attention": true,
        }),
        Family::Xl => json!({
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "use_linear_projection": true,
            "addition_embed_type": "text_time",
        }),
    };
    let sizes = match arch {
        Arch::Sd15 => json!({
            "sample_size": 64,
            "block_out_channels": [320, 640, 1280, 1280],
            "attention_head_dim": 8,
            "cross_attention_dim": 768,
        }),
        Arch::Sd21 => json!({
            "sample_size": 96,
            "block_out_channels": [320, 640, 1280, 1280],
            "attention_head_dim": [5, 10, 20, 20],
            "cross_attention_dim": 1024,
        }),
        Arch::Sdxl => json!({
            "sample_size": 128,
            "block_out_channels": [320, 640, 1280],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "transformer_layers_per_block": [1, 2, 10],
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        }),
        Arch::TinySd => json!({
            "sample_size": 8,
            "block_out_channels": [16, 32, 32, 32],
            "attention_head_dim": 4,
            "cross_attention_dim": 32,
        }),
        Arch::TinySd2 => json!({
            "sample_size": 8,
            "block_out_channels": [16, 32, 32, 32],
            "attention_head_dim": [2, 4, 4, 4],
            "cross_attention_dim": 48,
        }),
        Arch::TinySdxl => json!({
            "sample_size": 8,
            "block_out_channels": [16, 32, 32],
            "attention_head_dim": [2, 4, 4],
            "cross_attention_dim": 32 + 48,
            "transformer_layers_per_block": [1, 2, 3],
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 40 + 6 * 8,
        }),
    };
    let common = json!({
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": super::pipeline::DIFFUSERS_VERSION,
        "act_fn": "silu",
        "center_input_sample": false,
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": if arch.size() == Size::Full { 2 } else { 1 },
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": if arch.size() == Size::Full { 32 } else { 8 },
        "out_channels": 4,
    });
    merged([common, family, sizes])
}

/// The config.json of the VAE.
pub(super) fn vae(arch: Arch) -> Value {
    let full = arch.size() == Size::Full;
    let levels: &[i64] = if full { &[128, 256, 512, 512] } else { &[8, 16, 16] };
    let sample_size = match arch {
        Arch::Sd15 => 512,
        Arch::Sd21 => 768,
        Arch::Sdxl => 1024,
        Arch::TinySd | Arch::TinySd2 | Arch::TinySdxl => 32,
    };
    json!({
        "_class_name": "AutoencoderKL",
        "_diffusers_version": super::pipeline::DIFFUSERS_VERSION,
        "act_fn": "silu",
        "block_out_channels": levels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels.len()],
        "force_upcast": arch.family() == Family::Xl,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": if full { 2 } else { 1 },
        "norm_num_groups": if full { 32 } else { 4 },
        "out_channels": 3,
        "sample_size": sample_size,
        "scaling_factor": if arch.family() == Family::Xl { 0.13025 } else { 0.18215 },
        "up_block_types": vec!["UpDecoderBlock2D"; levels.len()],
    })
}

/// One object of all keys, in alphabetical order as diffusers writes them.
fn merged(parts: [Value; 3]) -> Value {
    let mut entries: Vec<(String, Value)> = parts
        .into_iter()
        .filter_map(|part| match part {
            Value::Object(map) => Some(map),
            _ => None,
        })
        .flatten()
        .collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Object(Map::from_iter(entries))
}
