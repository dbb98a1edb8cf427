//! The teacher's configurations, in the words of diffusers and transformers.

use serde_json::{Value, json};

use super::recipe::{Recipe, TextRecipe, UNetRecipe, VaeRecipe};
use super::tokenizer::Vocabulary;
use crate::world::SIDE;

/// Channels of a latent.
pub(super) const LATENT_CHANNELS: i64 = 4;

/// Height and width of the latents.
pub(super) fn latent_side(recipe: &Recipe) -> i64 {
    SIDE as i64 >> (recipe.vae.block_out_channels.len().max(1) - 1)
}

/// vae/config.json.
pub(super) fn vae(recipe: &VaeRecipe) -> Value {
    let levels = recipe.block_out_channels.len();
    json!({
        "_class_name": "AutoencoderKL",
        "_diffusers_version": DIFFUSERS,
        "act_fn": "silu",
        "block_out_channels": recipe.block_out_channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "force_upcast": false,
        "in_channels": 3,
        "latent_channels": LATENT_CHANNELS,
        "layers_per_block": recipe.layers_per_block,
        "norm_num_groups": recipe.norm_num_groups,
        "out_channels": 3,
        "sample_size": SIDE,
        // The latents leave the encoder with unit variance in every channel already.
        "scaling_factor": 1.0,
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
    })
}

/// text_encoder/config.json.
pub(super) fn text_encoder(recipe: &TextRecipe, vocabulary: &Vocabulary) -> Value {
    json!({
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": vocabulary.start_id(),
        "eos_token_id": vocabulary.end_id(),
        "hidden_act": "quick_gelu",
        "hidden_size": recipe.hidden_size,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": recipe.intermediate_size,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": recipe.max_length,
        "model_type": "clip_text_model",
        "num_attention_heads": recipe.num_attention_heads,
        "num_hidden_layers": recipe.num_hidden_layers,
        "pad_token_id": vocabulary.end_id(),
        "projection_dim": recipe.hidden_size,
        "torch_dtype": "float16",
        "vocab_size": vocabulary.len(),
    })
}

/// unet/config.json.
pub(super) fn unet(recipe: &Recipe) -> Value {
    let UNetRecipe {
        block_out_channels,
        layers_per_block,
        transformer_layers_per_block,
        num_attention_heads,
        norm_num_groups,
    } = &recipe.unet;
    let levels = block_out_channels.len();
    let mut down = vec!["CrossAttnDownBlock2D"; levels];
    let mut up = vec!["CrossAttnUpBlock2D"; levels];
    down[..1].fill("DownBlock2D");
    up[levels - 1..].fill("UpBlock2D");
    json!({
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": DIFFUSERS,
        "act_fn": "silu",
        // Diffusers' name for what is the number of heads.
        "attention_head_dim": num_attention_heads,
        "block_out_channels": block_out_channels,
        "center_input_sample": false,
        "cross_attention_dim": recipe.text_encoder.hidden_size,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": LATENT_CHANNELS,
        "layers_per_block": layers_per_block,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": norm_num_groups,
        "out_channels": LATENT_CHANNELS,
        "sample_size": latent_side(recipe),
        "transformer_layers_per_block": transformer_layers_per_block,
        "up_block_types": up,
    })
}

/// scheduler/scheduler_config.json: Stable Diffusion's schedule, brought to pure noise at its end, with
/// v-prediction and trailing timesteps, as in "Common Diffusion Noise Schedules and Sample Steps are Flawed".
/// Without that the background's colour could be read off the last timestep's latents (`abar = 0.0047`) in
/// training, but not off the pure noise that sampling starts from.
pub(super) fn scheduler() -> Value {
    json!({
        "_class_name": "DDIMScheduler",
        "_diffusers_version": DIFFUSERS,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": true,
        "set_alpha_to_one": false,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
        "trained_betas": null,
    })
}

/// model_index.json.
pub(super) fn model_index() -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": DIFFUSERS,
        "feature_extractor": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

/// The version whose layout this is.
const DIFFUSERS: &str = "0.40.0";
