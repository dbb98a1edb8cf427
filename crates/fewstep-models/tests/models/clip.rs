//! CLIP's text encoder against transformers' golden values.

use std::collections::BTreeMap;

use super::common::{assert_near, fixture, golden};
use fewstep_models::clip::ClipTextModel;
use fewstep_models::params::Weights;
use fewstep_models::weights::{Component, read_tensors, write_json_atomic, write_tensors};
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn load(path: &str) -> (ClipTextModel, Weights) {
    let component = Component::open(&fixture(path)).unwrap();
    ClipTextModel::load(&component, Kind::Float, Device::Cpu).unwrap()
}

#[test]
fn encodes_as_transformers_does() {
    for (model, case, pooled) in [
        ("models/tiny-sd/text_encoder", "clip-tiny-sd", "out.pooled"),
        ("models/tiny-sd2/text_encoder", "clip-tiny-sd2", "out.pooled"),
        ("models/tiny-sdxl/text_encoder", "clip-tiny-sdxl", "out.pooled"),
        (
            "models/tiny-sdxl/text_encoder_2",
            "clip-tiny-sdxl-2",
            "out.text_embeds",
        ),
    ] {
        let (model, weights) = load(model);
        let golden = golden(case);
        model.check_input_ids(&golden["in.input_ids"]).unwrap();
        let output = model.forward(&weights, &golden["in.input_ids"]);
        assert_near(
            case,
            &output.last_hidden_state,
            &golden["out.last_hidden_state"],
            1e-5,
        );
        let penultimate = &golden["out.penultimate_hidden_state"];
        assert_near(case, &output.penultimate_hidden_state, penultimate, 1e-5);
        assert_near(case, &output.pooled, &golden[pooled], 1e-5);
    }
}

#[test]
fn computes_in_the_dtype_of_its_weights() {
    let (model, weights) = load("models/tiny-sdxl/text_encoder_2");
    let golden = golden("clip-tiny-sdxl-2");
    for (kind, tolerance) in [(Kind::BFloat16, 0.05), (Kind::Half, 0.005)] {
        let output = model.forward(&weights.to_kind(kind), &golden["in.input_ids"]);
        assert_eq!(output.pooled.kind(), kind);
        assert_near("pooled", &output.pooled, &golden["out.text_embeds"], tolerance);
        assert_near(
            "last",
            &output.last_hidden_state,
            &golden["out.last_hidden_state"],
            tolerance,
        );
    }
}

#[test]
fn names_without_a_prefix_and_projections_that_are_not_used_load() {
    let folder = tempfile::tempdir().unwrap();
    let component = Component::open(&fixture("models/tiny-sdxl/text_encoder_2")).unwrap();
    let stored = read_tensors(&component.path().join("model.safetensors")).unwrap();
    let bare = |name: &'_ str| name.strip_prefix("text_model.").unwrap_or(name).to_owned();
    let renamed: Vec<_> = stored.iter().map(|(name, tensor)| (bare(name), tensor)).collect();
    let path = folder.path().join("model.safetensors");
    write_tensors(
        &path,
        renamed.iter().map(|(name, t)| (name.as_str(), *t)),
        &BTreeMap::new(),
    )
    .unwrap();
    let golden = golden("clip-tiny-sdxl-2");
    let mut config = component.config().clone();
    for architecture in ["CLIPTextModelWithProjection", "CLIPTextModel"] {
        config["architectures"] = json!([architecture]);
        write_json_atomic(&folder.path().join("config.json"), &config).unwrap();
        let component = Component::open(folder.path()).unwrap();
        let (model, weights) = ClipTextModel::load(&component, Kind::Float, Device::Cpu).unwrap();
        let output = model.forward(&weights, &golden["in.input_ids"]);
        assert_near(
            architecture,
            &output.last_hidden_state,
            &golden["out.last_hidden_state"],
            1e-5,
        );
    }
}

#[test]
fn wrong_ids_are_named() {
    let (model, _) = load("models/tiny-sd/text_encoder");
    let long = Tensor::zeros([1, 78], (Kind::Int64, Device::Cpu));
    assert!(
        model
            .check_input_ids(&long)
            .unwrap_err()
            .to_string()
            .contains("S from 1 to 77")
    );
    let high = Tensor::full([1, 77], 610, (Kind::Int64, Device::Cpu));
    assert!(
        model
            .check_input_ids(&high)
            .unwrap_err()
            .to_string()
            .contains("ends at 609")
    );
    assert!(model.check_input_ids(&high.to_kind(Kind::Float)).is_err());
}
