//! `fewstep debug` against the reference's answers.

use std::collections::BTreeMap;

use fewstep_models::weights::read_tensors;
use serde_json::Value;
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

fn step_flags(case: &Value, model: &str) -> Vec<String> {
    let mut flags = vec![
        format!("--pretrained_teacher_model={model}"),
        "--device=cpu".to_owned(),
    ];
    for name in [
        "loss_type",
        "huber_c",
        "num_ddim_timesteps",
        "timestep_scaling_factor",
        "unet_time_cond_proj_dim",
        "lora_rank",
        "lora_alpha",
        "lora_target_modules",
    ] {
        if !case[name].is_null() {
            let value = case[name].to_string().replace(['"', '[', ']'], "");
            flags.push(format!("--{name}={value}"));
        }
    }
    flags
}

/// Every golden step whose teacher lies ready as a whole model.
#[test]
fn steps_agree_with_the_reference() {
    let cases = std::fs::read_to_string(fixture("golden/step.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    let mut compared = 0;
    for (name, case) in cases.as_object().unwrap() {
        if !case["scheduler"].is_null() || !case["prediction_type"].is_null() {
            continue;
        }
        let model = word(fixture(&format!("models/{}", case["model"].as_str().unwrap())));
        let wanted = golden(&format!("step-{name}"));
        let (ran, is) = replay("step", &step_flags(case, &model), &wanted.inputs);
        ran.ok();
        close(name, &is["loss"], &wanted.outputs["loss"], 1e-5);
        for (output, tensor) in &wanted.outputs {
            close(&format!("{name} {output}"), &is[output], tensor, 1e-4);
        }
        assert_eq!(is.len(), wanted.outputs.len(), "{name}");
        compared += 1;
    }
    assert!(compared >= 8, "only {compared} steps were compared");
}

#[test]
fn samples_agree_with_the_reference() {
    for (model, steps, flags) in [
        ("tiny-sd", 4, &["--steps=4", "--guidance_scale=8"][..]),
        (
            "tiny-sd2",
            3,
            &[
                "--steps=3",
                "--guidance-scale=4.5",
                "--original_inference_steps=30",
            ],
        ),
    ] {
        let wanted = golden(&format!("lcm-{model}"));
        let mut words = vec!["--model".to_owned(), word(fixture(&format!("models/{model}")))];
        words.extend(["--unet".to_owned(), word(fixture("models/loader/full/unet"))]);
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let (ran, is) = replay("sample", &words, &wanted.inputs);
        ran.ok();
        for step in 0..steps {
            let name = format!("latents.{step}");
            close(&name, &is[&name], &wanted.outputs[&name], 1e-4);
        }
        assert_eq!(is.len(), steps);
    }
}

#[test]
fn a_sample_says_which_noise_it_lacks() {
    let mut inputs = golden("lcm-tiny-sd").inputs;
    inputs.remove("noise.1");
    let model = word(fixture("models/tiny-sd"));
    let unet = word(fixture("models/loader/full/unet"));
    let flags = ["--model", &model, "--unet", &unet, "--steps=3"].map(str::to_owned);
    let text = replay("sample", &flags, &inputs).0.failed(1);
    assert!(text.contains("no tensor noise.1 [B, 4, h, w]"), "{text}");
}

#[test]
fn a_model_made_at_random_can_be_run() {
    let folder = TempDir::new().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    for path in [&one, &two] {
        fewstep([
            "debug",
            "init",
            "--arch",
            "tiny-sd",
            "--seed",
            "5",
            "--output",
            &word(path),
        ])
        .ok();
    }
    let weights = |path: &std::path::Path| {
        std::fs::read(path.join("unet/diffusion_pytorch_model.safetensors")).unwrap()
    };
    assert_eq!(weights(&one), weights(&two));
    let out = word(folder.path().join("a.png"));
    let model = word(&one);
    fewstep([
        "generate",
        "--model",
        &model,
        "--sampler=ddim",
        "--steps=2",
        "--prompt=a",
        "--out",
        &out,
    ])
    .ok();
    let text = fewstep(["debug", "init", "--arch", "sd9", "--output", &out]).failed(2);
    assert!(text.contains("sd15") && text.contains("tiny-sdxl"), "{text}");
    let text = fewstep(["debug", "init", "--arch", "tiny-sd", "--output", &model]).failed(1);
    assert!(text.contains(&model), "{text}");
}
