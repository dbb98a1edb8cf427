//! CLIP's text encoder and tokenizer against transformers' golden values, and SDXL's two of them against its
//! pipeline (spec F16).

use std::collections::BTreeMap;

use super::common::{assert_near, fixture, golden};
use fewstep_models::clip::{ClipTextModel, ClipTokenizer};
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{Conditions, Pipeline, PipelineOptions};
use fewstep_models::weights::{Component, Folder, read_tensors, write_json_atomic, write_tensors};
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

/// The captions of the golden values: none, a short one, one of more than 77 tokens, and beyond ASCII.
fn captions() -> [String; 4] {
    let long = "The cat's photo, ".repeat(30);
    ["", "a red circle above a blue square", &long, "éclair 東京 🦀"].map(str::to_owned)
}

#[test]
fn each_tokenizer_gives_the_ids_that_its_encoder_was_given() {
    // The first and third fill up with the end's id, the others with that of "!", which is 0.
    for (tokenizer, case, pad) in [
        ("models/tiny-sd/tokenizer", "clip-tiny-sd", 609),
        ("models/tiny-sd2/tokenizer", "clip-tiny-sd2", 0),
        ("models/tiny-sdxl/tokenizer", "clip-tiny-sdxl", 609),
        ("models/tiny-sdxl/tokenizer_2", "clip-tiny-sdxl-2", 0),
    ] {
        let ids = ClipTokenizer::load(&fixture(tokenizer))
            .unwrap()
            .encode(&captions())
            .unwrap();
        assert_eq!(ids, golden(case)["in.input_ids"], "{tokenizer}");
        assert_eq!(ids.int64_value(&[0, 76]), pad, "{tokenizer}");
    }
}

#[test]
fn sdxl_is_told_what_its_pipeline_tells() {
    let options = PipelineOptions::new(Device::Cpu, Kind::Float);
    let folder = Folder::open(&fixture("models/tiny-sdxl")).unwrap();
    let pipeline = Pipeline::load(&folder, &options).unwrap();
    let golden = golden("conditions-tiny-sdxl");
    let same = |what: &str, told: &Conditions, embeds: &str, pooled: &str| {
        let added = told.added.as_ref().unwrap();
        assert_near(what, &told.prompt_embeds, &golden[embeds], 1e-5);
        assert_near(what, &added.text_embeds, &golden[pooled], 1e-5);
        assert_eq!(added.time_ids, golden["out.time_ids"], "{what}");
        assert_eq!(added.time_ids.kind(), Kind::Float, "{what}");
    };
    // 24 rows and 40 columns of pixels.
    let shape = [4, 12, 20];
    let told = pipeline.prompts(&captions(), None, &shape).unwrap();
    same("captions", &told.cond, "out.prompt_embeds", "out.text_embeds");
    let uncond = told.uncond.unwrap();
    same("none", &uncond, "out.no_prompt_embeds", "out.no_text_embeds");
    let told = pipeline
        .prompts(&captions()[1..2], Some("blurry, 东京"), &shape)
        .unwrap();
    let uncond = told.uncond.unwrap();
    same(
        "negative",
        &uncond,
        "out.negative_prompt_embeds",
        "out.negative_text_embeds",
    );
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
