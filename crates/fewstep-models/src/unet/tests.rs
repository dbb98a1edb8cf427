//! Tests of the UNet that need no golden outputs: configs, parameters, gradients, sinusoids.

use std::path::{Path, PathBuf};

use libtorch_ext::NoGrad;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{AddedConditions, Sinusoid, UNet2DConditionModel, UNetConfig, UNetInput};
use crate::params::Weights;
use crate::weights::{ModelError, read_json, read_tensors};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(path)
}

fn tiny(model: &str) -> Value {
    read_json(
        &fixture(&format!("models/{model}/unet/config.json")),
        "make the fixtures",
    )
    .unwrap()
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

#[test]
fn sinusoids_are_those_of_diffusers() {
    let golden = read_tensors(&fixture("golden/schedule.safetensors")).unwrap();
    let cases = [
        ("timesteps", "320_cos_first", 320, true, 0.0),
        ("timesteps", "320_sin_first", 320, false, 0.0),
        ("timesteps", "32_shift_1", 32, true, 1.0),
        ("timesteps", "33_odd", 33, true, 0.0),
        ("time_ids", "time_ids_256", 256, true, 0.0),
    ];
    for (values, name, dim, flip_sin_to_cos, freq_shift) in cases {
        let sinusoid = Sinusoid {
            dim,
            flip_sin_to_cos,
            freq_shift,
        };
        let wanted = &golden[&format!("out.sinusoid_{name}")];
        let is = sinusoid.embed(&golden[&format!("in.{values}")]);
        assert_eq!(is.kind(), Kind::Float);
        let difference = (is - wanted).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{name}: {difference}");
    }
    // Spec F9, at the timestep where f32 is furthest from the truth.
    let sinusoid = Sinusoid {
        dim: 320,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
    };
    let at_999 = sinusoid.embed(&Tensor::from_slice(&[999i64]));
    assert!((at_999.double_value(&[0, 0]) - 0.999_649_8).abs() < 1e-4);
    assert!((at_999.double_value(&[0, 1]) - 0.802_677_5).abs() < 1e-4);
}

/// Random tensors that fit tiny-sdxl, whose every kind of input is used.
struct Inputs {
    sample: Tensor,
    timestep: Tensor,
    context: Tensor,
    cond: Tensor,
    text_embeds: Tensor,
    time_ids: Tensor,
}

impl Inputs {
    fn new() -> Self {
        tch::manual_seed(1);
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        Inputs {
            sample: normal(&[2, 4, 8, 8]),
            timestep: Tensor::from_slice(&[19i64, 999]),
            context: normal(&[2, 7, 28]),
            cond: normal(&[2, 6]),
            text_embeds: normal(&[2, 20]),
            time_ids: Tensor::from_slice(&[512f32, 768.0, 0.0, 37.0, 512.0, 512.0]).repeat([2, 1]),
        }
    }

    fn input(&self) -> UNetInput<'_> {
        UNetInput {
            sample: &self.sample,
            timestep: &self.timestep,
            encoder_hidden_states: &self.context,
            timestep_cond: Some(&self.cond),
            added: Some(AddedConditions {
                text_embeds: &self.text_embeds,
                time_ids: &self.time_ids,
            }),
        }
    }
}

fn student() -> UNet2DConditionModel {
    let config = UNetConfig::from_json(&tiny("tiny-sdxl")).unwrap();
    UNet2DConditionModel::new(config.with_time_cond_proj_dim(Some(6))).unwrap()
}

#[test]
fn an_input_that_does_not_fit_is_named_with_both_shapes() {
    let unet = student();
    let inputs = Inputs::new();
    unet.check_input(&inputs.input()).unwrap();
    let wide = Tensor::zeros([2, 7, 30], (Kind::Float, Device::Cpu));
    let three = Tensor::from_slice(&[1i64, 2, 3]);
    let cases = [
        (
            UNetInput {
                encoder_hidden_states: &wide,
                ..inputs.input()
            },
            "`encoder_hidden_states` has shape [2, 7, 30], but must have [2, any, 28]",
        ),
        (
            UNetInput {
                timestep: &three,
                ..inputs.input()
            },
            "`timestep` has shape [3], but must have [2]",
        ),
        (
            UNetInput {
                sample: &wide,
                ..inputs.input()
            },
            "`sample` has shape [2, 7, 30], but must have [B, 4, h, w]",
        ),
        (
            UNetInput {
                added: None,
                ..inputs.input()
            },
            "`text_embeds` and `time_ids` are missing",
        ),
    ];
    for (input, wanted) in cases {
        let error = unet.check_input(&input).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let teacher = build(&tiny("tiny-sdxl")).unwrap();
    let error = teacher.check_input(&inputs.input()).unwrap_err().to_string();
    assert!(error.contains("`timestep_cond` is given"), "{error}");
}

#[test]
fn gradients_reach_every_master_through_a_16_bit_copy() {
    let unet = student();
    let inputs = Inputs::new();
    let masters = Weights::random(unet.layout(), Device::Cpu).trainable();
    let gradients = |kind: Kind| {
        let output = unet.forward(&masters.to_kind(kind), &inputs.input());
        assert_eq!(output.kind(), kind);
        let loss = output.to_kind(Kind::Float).square().mean(Kind::Float);
        Tensor::run_backward(&[loss], masters.tensors(), false, false)
    };
    let exact = gradients(Kind::Float);
    let rounded = gradients(Kind::BFloat16);
    let flat = |list: &[Tensor]| Tensor::cat(&list.iter().map(|t| t.flatten(0, -1)).collect::<Vec<_>>(), 0);
    for ((name, _), (exact, rounded)) in masters.named().zip(exact.iter().zip(&rounded)) {
        assert_eq!(rounded.kind(), Kind::Float, "{name}");
        assert!(rounded.isfinite().all().int64_value(&[]) == 1, "{name}");
        assert!(
            exact.abs().max().double_value(&[]) > 0.0,
            "{name} has no gradient"
        );
    }
    let (a, b) = (flat(&exact), flat(&rounded));
    let cosine = (a.dot(&b) / (a.norm() * b.norm())).double_value(&[]);
    assert!(cosine > 0.99, "cosine similarity {cosine}");
}

#[test]
fn a_channels_last_input_gives_the_same_numbers() {
    let unet = student();
    let mut inputs = Inputs::new();
    let weights = Weights::random(unet.layout(), Device::Cpu);
    let _guard = NoGrad::new();
    let wanted = unet.forward(&weights, &inputs.input());
    inputs.sample = inputs
        .sample
        .permute([0, 2, 3, 1])
        .contiguous()
        .permute([0, 3, 1, 2]);
    let is = unet.forward(&weights, &inputs.input());
    assert!((is - wanted).abs().max().double_value(&[]) < 1e-5);
}
