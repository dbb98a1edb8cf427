//! Tests of the UNet beyond its golden outputs: inputs, gradients, memory formats, sinusoids.

use std::path::{Path, PathBuf};

use libtorch_ext::NoGrad;
use tch::{Device, Kind, Tensor};

use super::{AddedConditions, Recomputed, Sinusoid, UNet2DConditionModel, UNetConfig, UNetInput};
use crate::adapters::{AdapterOptions, AdapterSet, Dropout, Targets};
use crate::params::Weights;
use crate::weights::{Component, read_tensors};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(path)
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

/// tiny-sdxl with a guidance embedding of this length.
fn sdxl(time_cond_proj_dim: Option<i64>) -> UNet2DConditionModel {
    let folder = Component::open(&fixture("models/tiny-sdxl/unet")).unwrap();
    let config = folder.parse(UNetConfig::from_json).unwrap();
    UNet2DConditionModel::new(config.with_time_cond_proj_dim(time_cond_proj_dim)).unwrap()
}

#[test]
fn an_input_that_does_not_fit_is_named_with_both_shapes() {
    let unet = sdxl(Some(6));
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
        (
            UNetInput {
                added: Some(AddedConditions {
                    text_embeds: &inputs.text_embeds,
                    time_ids: &inputs.cond.narrow(1, 0, 5),
                }),
                ..inputs.input()
            },
            "are [B, 20] and [B, 5], but 20 and 5 sinusoids of 8 do not make",
        ),
    ];
    for (input, wanted) in cases {
        let error = unet.check_input(&input).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let teacher = sdxl(None);
    let error = teacher.check_input(&inputs.input()).unwrap_err().to_string();
    assert!(error.contains("`timestep_cond` is given"), "{error}");
}

#[test]
fn gradients_reach_every_master_through_a_16_bit_copy() {
    let unet = sdxl(Some(6));
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
    let unet = sdxl(Some(6));
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

/// The gradients of `trained`, with `count` pieces computed again.
fn gradients_recomputing(
    unet: &UNet2DConditionModel,
    all: &Weights,
    trained: &Weights,
    count: usize,
) -> Vec<Tensor> {
    let inputs = Inputs::new();
    let recomputed = Recomputed::largest(&unet.pieces(), count);
    assert_eq!(recomputed.len(), count);
    let output = unet.forward_recomputing(all, &inputs.input(), &recomputed);
    let loss = output.to_kind(Kind::Float).square().mean(Kind::Float);
    Tensor::run_backward(&[loss], trained.tensors(), false, false)
}

#[test]
fn pieces_computed_again_change_no_bit_of_any_gradient() {
    let unet = sdxl(Some(6));
    let pieces = unet.pieces().len();
    assert!(pieces > 10, "{pieces}");
    for kind in [Kind::Float, Kind::BFloat16] {
        tch::manual_seed(2);
        let weights = Weights::random_as(unet.layout(), kind, Device::Cpu).trainable();
        let plain = gradients_recomputing(&unet, &weights, &weights, 0);
        for count in [1, pieces / 2, pieces] {
            let again = gradients_recomputing(&unet, &weights, &weights, count);
            for ((name, _), (plain, again)) in weights.named().zip(plain.iter().zip(&again)) {
                assert_eq!(plain, again, "{name}, {count} of {pieces}, {kind:?}");
            }
        }
    }
}

#[test]
fn gradients_of_adapters_survive_too() {
    let unet = sdxl(None);
    tch::manual_seed(2);
    let base = Weights::random(unet.layout(), Device::Cpu);
    let options = AdapterOptions {
        rank: 2,
        alpha: 3.0,
        dropout: 0.0,
        targets: Targets::default(),
    };
    let set = AdapterSet::new(unet.layout(), options).unwrap();
    let adapters = Weights::random(set.layout(), Device::Cpu)
        .map(|t| t.randn_like() * 0.1)
        .trainable();
    let student = set.attach(&base, &adapters, Dropout::On);
    let inputs = Inputs::new();
    let gradients = |count| {
        let input = UNetInput {
            timestep_cond: None,
            ..inputs.input()
        };
        let recomputed = Recomputed::largest(&unet.pieces(), count);
        let output = unet.forward_recomputing(&student, &input, &recomputed);
        Tensor::run_backward(
            &[output.square().mean(Kind::Float)],
            adapters.tensors(),
            false,
            false,
        )
    };
    let (plain, again) = (gradients(0), gradients(unet.pieces().len()));
    for ((name, _), (plain, again)) in adapters.named().zip(plain.iter().zip(&again)) {
        assert_eq!(plain, again, "{name}");
    }
}
