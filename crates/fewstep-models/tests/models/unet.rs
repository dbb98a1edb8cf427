//! The UNet against diffusers: spec F15.

use std::collections::BTreeMap;

use fewstep_models::params::Weights;
use fewstep_models::unet::{AddedConditions, UNet2DConditionModel, UNetConfig, UNetInput};
use fewstep_models::weights::Component;
use libtorch_ext::NoGrad;
use tch::{Device, Kind, Tensor};

use crate::common::{assert_near, fixture, golden};

fn load(model: &str, kind: Kind) -> (UNet2DConditionModel, Weights) {
    let folder = Component::open(&fixture(&format!("models/{model}/unet"))).unwrap();
    let unet = UNet2DConditionModel::new(folder.parse(UNetConfig::from_json).unwrap()).unwrap();
    let weights = folder.load(unet.layout(), kind, Device::Cpu).unwrap();
    (unet, weights)
}

fn input(golden: &BTreeMap<String, Tensor>) -> UNetInput<'_> {
    let get = |name: &str| golden.get(&format!("in.{name}"));
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

fn assert_parity(model: &str, case: &str) {
    let (unet, weights) = load(model, Kind::Float);
    let golden = golden(&format!("unet-{case}"));
    let _guard = NoGrad::new();
    unet.check_input(&input(&golden)).unwrap();
    let output = unet.forward(&weights, &input(&golden));
    assert_near(case, &output, &golden["out.sample"], 1e-5);
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
        let golden = golden(&format!("unet-{model}"));
        // Spec F15: cosine similarity above 0.9999 in f16 and 0.999 in bf16.
        for (kind, floor) in [(Kind::Half, 0.9999), (Kind::BFloat16, 0.999)] {
            let (unet, weights) = load(model, kind);
            let _guard = NoGrad::new();
            let output = unet.forward(&weights, &input(&golden));
            assert_eq!(output.kind(), kind);
            let (a, b) = (
                output.to_kind(Kind::Float).flatten(0, -1),
                golden["out.sample"].flatten(0, -1),
            );
            let cosine = a.dot(&b) / (a.norm() * b.norm());
            let cosine = cosine.double_value(&[]);
            assert!(cosine > floor, "{model} in {kind:?}: cosine similarity {cosine}");
        }
    }
}
