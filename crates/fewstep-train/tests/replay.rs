//! What `debug step` refuses, and in which words.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{config, fixtures, golden};
use fewstep_train::replay;
use tch::{Device, Kind, Tensor};

fn message(change: impl FnOnce(&mut std::collections::BTreeMap<String, Tensor>)) -> String {
    let model = fixtures().join("models/tiny-sd");
    let (mut inputs, _) = golden("step-epsilon-l2.safetensors");
    change(&mut inputs);
    let config = config(&[("pretrained_teacher_model", model.to_str().unwrap())]);
    match replay::step(&config, inputs) {
        Ok(_) => "it was taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn wrong_tensors_are_named_with_their_shapes() {
    assert_eq!(
        message(|inputs| drop(inputs.remove("noise"))),
        "tensor `noise` is missing"
    );
    let set = |name: &str, tensor: Tensor| {
        let name = name.to_owned();
        message(move |inputs| drop(inputs.insert(name, tensor)))
    };
    assert_eq!(set("w", zeros(&[2])), "tensor `w` has shape [2], but must be [3]");
    assert_eq!(
        set("index", zeros(&[3])),
        "tensor `index` is Float, but must be Int64"
    );
    assert_eq!(
        set("index", Tensor::from_slice(&[0i64, 50, 1])),
        "tensor `index` holds 50, but solver steps are 0 to 49"
    );
    assert_eq!(
        set("init.conv_in.bias", zeros(&[3])),
        "tensor `init.conv_in.bias` has shape [3], but must be [8]"
    );
    assert_eq!(
        set("init.conv_in.biases", zeros(&[8])),
        "tensor `init.conv_in.biases` names no parameter that is trained"
    );
    assert!(set("prompt", zeros(&[1])).starts_with("tensor `prompt` is not known"));
    assert_eq!(
        set("uncond_prompt_embeds", zeros(&[2, 77, 16])),
        "tensor `uncond_prompt_embeds` has shape [2, 77, 16], but must be [3, 77, 16]"
    );
    assert!(set("prompt_embeds", zeros(&[3, 77, 12])).contains("encoder_hidden_states"));
    let half = message(|inputs| {
        let latents = inputs["latents"].to_kind(Kind::Half);
        inputs.insert("latents".to_owned(), latents);
    });
    assert_eq!(half, "it was taken");
}
