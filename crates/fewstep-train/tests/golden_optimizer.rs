//! Losses (F12), and ten AdamW updates with clipping and a moving average (F14), against torch's own numbers; updates
//! with 8-bit moments against bitsandbytes'.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{config, difference, fixtures, golden, json};
use fewstep_models::params::{Init, Layout, Weights};
use fewstep_train::Stride;
use fewstep_train::ema::Average;
use fewstep_train::gradients::{Gradients, clip_factor};
use fewstep_train::loss::Loss;
use fewstep_train::optimizer::AdamW;
use fewstep_train::precision::Mastered;
use tch::{Kind, Tensor};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The weights that a fixture begins with.
fn first_weights(inputs: &BTreeMap<String, Tensor>, names: [&'static str; 3]) -> Weights {
    let start = |name: &str| inputs[&format!("param.{name}")].shallow_clone();
    let (_, layout) =
        Layout::build(|root| names.map(|name| root.param(name, &start(name).size(), Init::Zeros)));
    Weights::new(layout, names.map(start).into())
}

/// A step's gradients: those of a loss whose gradients are the given ones.
fn gradients(
    inputs: &BTreeMap<String, Tensor>,
    names: [&str; 3],
    student: &Mastered,
    step: u64,
) -> Gradients {
    let weights = student.compute();
    let loss = names
        .iter()
        .zip(weights.tensors())
        .map(|(name, t)| (t * &inputs[&format!("grad.{step}.{name}")]).sum(Kind::Float))
        .reduce(|a, b| a + b)
        .unwrap();
    let mut gradients = Gradients::default();
    gradients.add(&loss, weights).unwrap();
    gradients
}

#[test]
fn ten_updates_are_torchs() {
    let settings = json(&fixtures().join("golden/optimizer.json"));
    let number = |key: &str| settings[key].as_f64().unwrap();
    let (inputs, wanted) = golden("optimizer.safetensors");
    let weights = first_weights(&inputs, NAMES);
    let target = Mastered::frozen(weights.deep_clone(), Kind::Float);
    let student = Mastered::trainable(weights, Kind::Float);
    let mut config = config(&[]);
    config.optimizer.adam_weight_decay = number("weight_decay");
    config.optimizer.adam_epsilon = number("eps");
    let mut optimizer = AdamW::new(student.master(), &config.optimizer).unwrap();

    for step in 0..settings["steps"].as_u64().unwrap() {
        let gradients = gradients(&inputs, NAMES, &student, step);
        let norm = gradients.norm().unwrap();
        let average = Average {
            target: &target,
            mu: number("ema_decay"),
        };
        let stride = Stride {
            lr: number("lr"),
            factor: &clip_factor(&norm, number("max_grad_norm")).unwrap(),
            skip: &Tensor::from(0f32),
        };
        optimizer
            .step(&student, Some(&average), gradients, &stride)
            .unwrap();

        let close = |got: &Tensor, key: &str| {
            let off = difference(got, &wanted[key]);
            assert!(off <= 1e-6, "{key} is off by {off:e}");
        };
        close(&norm, &format!("grad_norm.{step}"));
        for name in NAMES {
            close(
                student.master().get(name).unwrap(),
                &format!("param.{step}.{name}"),
            );
            close(target.master().get(name).unwrap(), &format!("ema.{step}.{name}"));
        }
    }
}

#[test]
fn moments_in_8_bits_are_bitsandbytes() {
    const NAMES: [&str; 3] = ["whole", "ragged", "small"];
    let settings = json(&fixtures().join("golden/eight-bits.json"));
    let number = |key: &str| settings[key].as_f64().unwrap();
    let (inputs, wanted) = golden("eight-bits.safetensors");
    // The gradients are bf16 numbers, and are handed over as such.
    let student = Mastered::trainable(first_weights(&inputs, NAMES), Kind::BFloat16);
    let mut config = config(&[("use_8bit_adam", "")]);
    config.optimizer.adam_weight_decay = number("weight_decay");
    config.optimizer.adam_epsilon = number("eps");
    let mut optimizer = AdamW::new(student.master(), &config.optimizer).unwrap();

    for step in 0..settings["steps"].as_u64().unwrap() {
        let gradients = gradients(&inputs, NAMES, &student, step);
        let stride = Stride {
            lr: number("lr"),
            factor: &Tensor::from(1f32),
            skip: &Tensor::from(0f32),
        };
        optimizer.step(&student, None, gradients, &stride).unwrap();

        let state: BTreeMap<String, Tensor> = optimizer.named_state().into_iter().collect();
        for name in ["whole", "ragged"] {
            for moment in ["exp_avg", "exp_avg_sq"] {
                let codes = &wanted[&format!("{moment}.{step}.{name}")];
                assert_eq!(
                    state[&format!("{moment}.{name}")],
                    *codes,
                    "{moment}.{step}.{name}"
                );
                let absmax = format!("{moment}_absmax");
                let off = difference(
                    &state[&format!("{absmax}.{name}")],
                    &wanted[&format!("{absmax}.{step}.{name}")],
                );
                assert!(off <= 1e-6, "{absmax}.{step}.{name} is off by {off:e}");
            }
        }
        assert_eq!(state["exp_avg.small"].kind(), Kind::Float);
    }
    for name in NAMES {
        let off = difference(
            student.master().get(name).unwrap(),
            &wanted[&format!("param.{name}")],
        );
        assert!(off <= 1e-6, "{name} is off by {off:e}");
    }
}

#[test]
fn losses_are_the_references() {
    let (inputs, wanted) = golden("maths.safetensors");
    let (a, b, near) = (&inputs["latents"], &inputs["noise"], &inputs["near"]);
    let huber = |c| Loss::Huber { c };
    for (name, loss, prediction, target) in [
        ("l2", Loss::L2, a, b),
        ("l2_near", Loss::L2, near, a),
        ("huber_0.001", huber(1e-3), a, b),
        ("huber_0.1", huber(0.1), a, b),
    ] {
        let off = difference(
            &loss.between(prediction, target),
            &wanted[&format!("loss.{name}")],
        );
        assert!(off <= 1e-6, "{name} is off by {off:e}");
    }
    // Where the difference is far below c the reference loses digits, so that only the absolute error counts.
    let near_loss = huber(1e-3).between(near, a).double_value(&[]);
    let near_want = wanted["loss.huber_0.001_near"].double_value(&[]);
    assert!((near_loss - near_want).abs() <= 1e-9, "{near_loss} {near_want}");
    assert_eq!(huber(1e-3).between(a, a).double_value(&[]), 0.0);
}
