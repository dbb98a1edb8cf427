//! `fewstep debug` against the reference's answers.

use std::collections::BTreeMap;

use fewstep_models::weights::read_tensors;
use tch::Tensor;
use tempfile::TempDir;

use super::common::{Ran, close, fewstep, fixture, golden, save, word};

/// Runs `debug PART FLAGS` on the tensors, and returns those that it wrote.
fn replay(
    part: &str,
    flags: &[String],
    inputs: &BTreeMap<String, Tensor>,
) -> (Ran, BTreeMap<String, Tensor>) {
    let folder = TempDir::new().unwrap();
    let (from, to) = (
        folder.path().join("in.safetensors"),
        folder.path().join("out.safetensors"),
    );
    save(&from, inputs);
    let mut words = vec!["debug".to_owned(), part.to_owned()];
    words.extend_from_slice(flags);
    words.extend([
        "--inputs".to_owned(),
        word(&from),
        "--output".to_owned(),
        word(&to),
    ]);
    let ran = fewstep(&words);
    let outputs = if to.exists() {
        read_tensors(&to).unwrap()
    } else {
        BTreeMap::new()
    };
    (ran, outputs)
}

fn forward(model: &str, component: &str) -> Vec<String> {
    [
        "--model".to_owned(),
        word(fixture(&format!("models/{model}"))),
        "--component".to_owned(),
        component.to_owned(),
    ]
    .to_vec()
}

fn forward_agrees(model: &str, component: &str, name: &str, outputs: &[&str]) {
    let wanted = golden(name);
    let (ran, is) = replay("forward", &forward(model, component), &wanted.inputs);
    ran.ok();
    for output in outputs {
        close(output, &is[*output], &wanted.outputs[*output], 1e-4);
    }
    assert_eq!(is.len(), outputs.len(), "{:?}", is.keys());
}

#[test]
fn unets_agree_with_the_reference() {
    for (model, name) in [
        ("tiny-sd", "unet-tiny-sd"),
        ("tiny-sd2", "unet-tiny-sd2-odd"),
        ("tiny-sdxl", "unet-tiny-sdxl"),
        ("loader/full", "unet-time-cond"),
    ] {
        forward_agrees(model, "unet", name, &["sample"]);
    }
}

#[test]
fn a_unet_may_lie_elsewhere() {
    let wanted = golden("unet-tiny-sd2");
    let mut flags = forward("tiny-sd", "unet");
    flags.extend(["--unet".to_owned(), word(fixture("models/tiny-sd2/unet"))]);
    let (ran, is) = replay("forward", &flags, &wanted.inputs);
    ran.ok();
    close("sample", &is["sample"], &wanted.outputs["sample"], 1e-4);
}

#[test]
fn vaes_and_text_encoders_agree_with_the_reference() {
    forward_agrees("tiny-sd", "vae_encode", "vae-tiny-sd-odd", &["mean", "logvar"]);
    forward_agrees("tiny-sd", "vae_decode", "vae-tiny-sd-odd", &["pixels"]);
    let states = ["last_hidden_state", "penultimate_hidden_state"];
    forward_agrees("tiny-sd", "text_encoder", "clip-tiny-sd", &states);
    let with_text_embeds = [states[0], states[1], "text_embeds"];
    forward_agrees(
        "tiny-sdxl",
        "text_encoder_2",
        "clip-tiny-sdxl-2",
        &with_text_embeds,
    );
}

#[test]
fn half_precision_is_near() {
    let wanted = golden("unet-tiny-sd");
    for dtype in ["bf16", "f16"] {
        let mut flags = forward("tiny-sd", "unet");
        flags.push(format!("--dtype={dtype}"));
        let (ran, is) = replay("forward", &flags, &wanted.inputs);
        ran.ok();
        close(dtype, &is["sample"], &wanted.outputs["sample"], 0.05);
    }
}

#[test]
fn texts_become_ids() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("ids.safetensors");
    let mut words = vec!["debug".to_owned(), "forward".to_owned()];
    words.extend(forward("tiny-sd", "tokenizer"));
    for text in ["a red circle", "", "--strange--"] {
        words.extend(["--text".to_owned(), text.to_owned()]);
    }
    words.extend(["--output".to_owned(), word(&out)]);
    fewstep(&words).ok();
    let ids = &read_tensors(&out).unwrap()["input_ids"];
    assert_eq!(ids.size(), [3, 77]);
    assert_eq!(ids.int64_value(&[1, 1]), ids.int64_value(&[1, 76]));
    assert_ne!(ids.int64_value(&[0, 1]), ids.int64_value(&[2, 1]));
}

#[test]
fn wrong_tensors_are_named_with_their_shapes() {
    let flags = forward("tiny-sd", "unet");
    let mut inputs = golden("unet-tiny-sd").inputs;
    let states = inputs.remove("encoder_hidden_states").unwrap();
    let text = replay("forward", &flags, &inputs).0.failed(1);
    assert!(
        text.contains("no tensor encoder_hidden_states [B, S, D]"),
        "{text}"
    );

    inputs.insert("encoder_hidden_states".to_owned(), states.narrow(2, 0, 3));
    let text = replay("forward", &flags, &inputs).0.failed(1);
    assert!(
        text.contains("encoder_hidden_states") && text.contains("[2, 77, 3]"),
        "{text}"
    );

    inputs.insert("encoder_hidden_states".to_owned(), states);
    inputs.insert("timestep".to_owned(), Tensor::from_slice(&[0.5f32, 1.0]));
    let text = replay("forward", &flags, &inputs).0.failed(1);
    assert!(
        text.contains("tensor timestep is Float and must be whole numbers"),
        "{text}"
    );

    let text = replay("forward", &forward("nowhere", "unet"), &inputs)
        .0
        .failed(1);
    assert!(text.contains("nowhere does not exist"), "{text}");
}
