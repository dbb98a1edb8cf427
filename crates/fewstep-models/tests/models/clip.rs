//! CLIP's tokenizer and text encoder against transformers' golden values.

use super::common::{assert_near, fixture, golden};
use fewstep_models::clip::{ClipTextModel, ClipTokenizer};
use fewstep_models::params::Weights;
use fewstep_models::weights::Component;
use serde_json::Value;
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

#[test]
fn tokenizes_as_transformers_does() {
    let text = std::fs::read_to_string(fixture("golden/tokenizer.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let texts: Vec<&str> = golden["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    for (pad, folder) in golden["folders"].as_object().unwrap() {
        let tokenizer = ClipTokenizer::load(&fixture("models").join(folder.as_str().unwrap())).unwrap();
        let ids = tokenizer.encode(&texts).unwrap();
        let wanted = golden[format!("{pad}_input_ids")].as_array().unwrap();
        for (i, text) in texts.iter().enumerate() {
            let got = Vec::<i64>::try_from(ids.get(i as i64)).unwrap();
            let wanted: Vec<i64> = wanted[i]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_i64().unwrap())
                .collect();
            assert_eq!(got, wanted, "{text:?} padded with {pad}");
        }
    }
}
