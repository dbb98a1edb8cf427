//! Tests of UNet configs: what is read, what is refused, what is written, and how many parameters it makes.

use std::path::Path;

use serde_json::{Value, json};

use super::{UNet2DConditionModel, UNetConfig};
use crate::weights::{ModelError, read_json};

fn tiny(model: &str) -> Value {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    read_json(&models.join(model).join("unet/config.json"), "make the fixtures").unwrap()
}

fn build(config: &Value) -> Result<UNet2DConditionModel, ModelError> {
    UNet2DConditionModel::new(UNetConfig::from_json(config)?)
}

/// The error that tiny-sd's config gives with one option changed.
fn refusal(option: &str, value: Value) -> String {
    let mut config = tiny("tiny-sd");
    config[option] = value;
    build(&config).unwrap_err().to_string()
}

#[test]
fn an_unsupported_option_is_named_with_its_value() {
    let cases = [
        ("class_embed_type", json!("timestep")),
        ("num_class_embeds", json!(7)),
        ("dual_cross_attention", json!(true)),
        ("encoder_hid_dim_type", json!("text_proj")),
        ("resnet_time_scale_shift", json!("spatial")),
        ("time_embedding_type", json!("fourier")),
        ("addition_embed_type", json!("image")),
        ("attention_type", json!("gated")),
        ("dropout", json!(0.1)),
        ("act_fn", json!("tanh")),
        ("mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
        ("_class_name", json!("UNet3DConditionModel")),
        ("norm_num_groups", json!(null)),
    ];
    for (option, value) in cases {
        let error = refusal(option, value.clone());
        assert!(error.contains(&format!("`{option}`")), "{error}");
        assert!(error.contains(&value.to_string()), "{error}");
    }
}

#[test]
fn a_block_type_is_named_with_what_there_is() {
    let error = refusal(
        "up_block_types",
        json!(["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]),
    );
    assert!(
        error.contains("`up_block_types`") && error.contains("AttnUpBlock2D"),
        "{error}"
    );
    assert!(error.contains("\"CrossAttnUpBlock2D\""), "{error}");
}

#[test]
fn lists_of_the_wrong_length_and_sums_that_do_not_add_up_are_named() {
    let cases = [
        (
            "layers_per_block",
            json!([1, 2]),
            "has 2 entries, but block_out_channels has 3",
        ),
        (
            "attention_head_dim",
            json!([1, 2, 100]),
            "100 heads at level 2, which has 16 channels",
        ),
        ("norm_num_groups", json!(3), "`block_out_channels`"),
        (
            "cross_attention_dim",
            json!([16, 8, 16]),
            "one prompt can have one width only",
        ),
        (
            "transformer_layers_per_block",
            json!([[1], [1], [1]]),
            "`reverse_transformer_layers_per_block`",
        ),
        (
            "block_out_channels",
            json!([]),
            "has 0 levels, but must have 1 to 12",
        ),
        (
            "block_out_channels",
            json!([8, "16"]),
            "must be a list of whole numbers above zero",
        ),
    ];
    for (option, value, wanted) in cases {
        let error = refusal(option, value);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn an_unknown_option_names_the_nearest_and_metadata_passes() {
    let error = refusal("use_linear_projektion", json!(true));
    assert!(
        error.contains("the nearest is `use_linear_projection`"),
        "{error}"
    );
    let mut config = tiny("tiny-sd");
    for (key, value) in [
        ("_name_or_path", json!("somewhere/unet")),
        ("from_the_future", json!(null)),
        ("not_in_use", json!(false)),
        ("update_after_step", json!(0)),
    ] {
        config[key] = value;
    }
    let unet = build(&config).unwrap();
    assert_eq!(unet.config().to_json(), config);
}

#[test]
fn a_flag_that_is_null_is_false() {
    let mut config = tiny("tiny-sd2");
    config["upcast_attention"] = Value::Null;
    config["flip_sin_to_cos"] = Value::Null;
    let config = UNetConfig::from_json(&config).unwrap();
    assert!(!config.upcast_attention && !config.flip_sin_to_cos);
}

#[test]
fn a_config_round_trips_and_takes_a_guidance_embedding() {
    for model in [
        "tiny-sd",
        "tiny-sd2",
        "tiny-sdxl",
        "options",
        "loader/sparse-config",
    ] {
        let config = tiny(model);
        let unet = build(&config).unwrap();
        assert_eq!(unet.config().to_json(), config, "{model}");
        let with = unet.config().clone().with_time_cond_proj_dim(Some(256));
        assert_eq!(with.to_json()["time_cond_proj_dim"], 256);
        assert_eq!(
            UNetConfig::from_json(&with.to_json()).unwrap().time_cond_proj_dim,
            Some(256)
        );
        let student = UNet2DConditionModel::new(with).unwrap();
        assert_eq!(student.layout().specs().len(), unet.layout().specs().len() + 1);
        let cond_proj = student.layout().spec("time_embedding.cond_proj.weight").unwrap();
        assert_eq!(cond_proj.shape, [unet.config().block_out_channels[0], 256]);
    }
}

#[test]
fn missing_options_have_the_defaults_of_diffusers() {
    let unet = build(&json!({})).unwrap();
    // The default UNet is that of SD 1.x but for the width of the prompt's embeddings.
    assert_eq!(unet.config().cross_attention_dim, [1280; 4]);
    assert_eq!(unet.config().num_attention_heads, [8; 4]);
    let sd15 = build(&json!({"cross_attention_dim": 768})).unwrap();
    assert_eq!(sd15.layout().specs().len(), 686);
    assert_eq!(sd15.layout().elements(), 859_520_964);
    let student = sd15.config().clone().with_time_cond_proj_dim(Some(256));
    let student = UNet2DConditionModel::new(student).unwrap();
    assert_eq!(student.layout().elements(), 859_520_964 + 320 * 256);
}

#[test]
fn heads_under_their_right_name_are_saved_under_the_one_that_diffusers_loads() {
    let mut config = tiny("tiny-sd");
    config["num_attention_heads"] = json!([1, 2, 4]);
    let config = UNetConfig::from_json(&config).unwrap();
    assert_eq!(config.num_attention_heads, [1, 2, 4]);
    let saved = config.to_json();
    assert_eq!(saved["attention_head_dim"], json!([1, 2, 4]));
    assert_eq!(saved["num_attention_heads"], Value::Null);
}
