//! Tests: the UNet against diffusers' outputs for the tiny models under tests/fixtures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{AddedConditions, UNet2DConditionModel, UNetConfig, UNetInput};
use crate::params::Weights;
use crate::weights::{Component, read_tensors};
use libtorch_ext::NoGrad;
use tch::{Device, Kind, Tensor};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn load(model: &str, kind: Kind) -> (UNet2DConditionModel, Weights) {
    let folder = Component::open(&fixtures().join("models").join(model).join("unet")).unwrap();
    let unet = UNet2DConditionModel::new(folder.parse(UNetConfig::from_json).unwrap()).unwrap();
    let weights = folder.load(unet.layout(), kind, Device::Cpu).unwrap();
    (unet, weights)
}

/// The golden tensors of one case, and the input they make.
struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn read(case: &str) -> Self {
        Golden(read_tensors(&fixtures().join(format!("golden/unet-{case}.safetensors"))).unwrap())
    }

    fn input(&self) -> UNetInput<'_> {
        let get = |name: &str| self.0.get(&format!("in.{name}"));
        UNetInput {
            sample: get("sample").unwrap(),
            timestep: get("timestep").unwrap(),
            encoder_hidden_states: get("encoder_hidden_states").unwrap(),
            timestep_cond: get("timestep_cond"),
            added: get("text_embeds").map(|text_embeds| AddedConditions {
                text_embeds,
                time_ids: get("time_ids").unwrap(),
            }),
        }
    }

    fn output(&self) -> &Tensor {
        &self.0["out.sample"]
    }
}

/// The largest difference, relative to the largest wanted number.
fn difference(is: &Tensor, wanted: &Tensor) -> f64 {
    let largest = |t: &Tensor| t.to_kind(Kind::Double).abs().max().double_value(&[]);
    largest(&(is.to_kind(Kind::Double) - wanted)) / largest(wanted)
}

fn assert_parity(model: &str, case: &str) {
    let (unet, weights) = load(model, Kind::Float);
    let golden = Golden::read(case);
    let _guard = NoGrad::new();
    unet.check_input(&golden.input()).unwrap();
    let output = unet.forward(&weights, &golden.input());
    assert_eq!(output.size(), golden.output().size(), "{case}");
    let difference = difference(&output, golden.output());
    assert!(difference < 1e-5, "{case} differs by {difference:.1e}");
}

#[test]
fn sd1_with_convolutional_projections() {
    assert_parity("tiny-sd", "tiny-sd");
}

#[test]
fn sd2_with_linear_projections_and_upcast_attention() {
    assert_parity("tiny-sd2", "tiny-sd2");
}

#[test]
fn sdxl_with_sizes_and_pooled_prompt() {
    assert_parity("tiny-sdxl", "tiny-sdxl");
}

#[test]
fn sizes_that_halving_does_not_divide() {
    assert_parity("tiny-sd", "tiny-sd-odd");
    assert_parity("tiny-sd2", "tiny-sd2-odd");
    assert_parity("tiny-sdxl", "tiny-sdxl-odd");
}

#[test]
fn heads_and_depths_by_level_and_sines_first() {
    assert_parity("options", "options");
}

#[test]
fn a_guidance_embedding_and_its_absence() {
    assert_parity("loader/full", "time-cond");
    assert_parity("loader/full", "time-cond-absent");
}

#[test]
fn sixteen_bit_weights_stay_close() {
    for model in ["tiny-sd", "tiny-sd2", "tiny-sdxl"] {
        let golden = Golden::read(model);
        // Spec F15: cosine similarity above 0.9999 in f16 and 0.999 in bf16.
        for (kind, floor) in [(Kind::Half, 0.9999), (Kind::BFloat16, 0.999)] {
            let (unet, weights) = load(model, kind);
            let _guard = NoGrad::new();
            let output = unet.forward(&weights, &golden.input());
            assert_eq!(output.kind(), kind);
            let (a, b) = (
                output.to_kind(Kind::Float).flatten(0, -1),
                golden.output().flatten(0, -1),
            );
            let cosine = a.dot(&b) / (a.norm() * b.norm());
            let cosine = cosine.double_value(&[]);
            assert!(cosine > floor, "{model} in {kind:?}: cosine similarity {cosine}");
        }
    }
}
