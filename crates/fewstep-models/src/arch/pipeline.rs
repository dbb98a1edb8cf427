//! The files that name a model's parts: model_index.json and the scheduler's config.

use serde_json::{Value, json};

use super::{Arch, Family};

/// The diffusers whose form of files this is.
pub(super) const DIFFUSERS_VERSION: &str = "0.42.1";

/// The model_index.json.
pub(super) fn model_index(arch: Arch) -> Value {
    match arch.family() {
        Family::Sd1 | Family::Sd2 => json!({
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": DIFFUSERS_VERSION,
            "feature_extractor": [null, null],
            "image_encoder": [null, null],
            "requires_safety_checker": false,
            "safety_checker": [null, null],
            "scheduler": ["diffusers", scheduler_class(arch)],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }),
        Family::Xl => json!({
            "_class_name": "StableDiffusionXLPipeline",
            "_diffusers_version": DIFFUSERS_VERSION,
            "force_zeros_for_empty_prompt": true,
            "scheduler": ["diffusers", scheduler_class(arch)],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }),
    }
}

/// The scheduler_config.json. All three families share their betas.
pub(super) fn scheduler(arch: Arch) -> Value {
    let mut config = json!({
        "_class_name": scheduler_class(arch),
        "_diffusers_version": DIFFUSERS_VERSION,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": if arch.family() == Family::Sd2 { "v_prediction" } else { "epsilon" },
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": null,
    });
    match arch.family() {
        Family::Sd1 => {
            config["set_alpha_to_one"] = json!(false);
            config["skip_prk_steps"] = json!(true);
        }
        Family::Sd2 => {
            config["clip_sample"] = json!(false);
            config["set_alpha_to_one"] = json!(false);
        }
        Family::Xl => {
            config["interpolation_type"] = json!("linear");
            config["use_karras_sigmas"] = json!(false);
        }
    }
    config
}

fn scheduler_class(arch: Arch) -> &'static str {
    match arch.family() {
        Family::Sd1 => "PNDMScheduler",
        Family::Sd2 => "DDIMScheduler",
        Family::Xl => "EulerDiscreteScheduler",
    }
}
