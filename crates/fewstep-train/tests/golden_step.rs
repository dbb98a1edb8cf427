//! One training step and ten of them against the reference's own numbers (F13).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{config, difference, fixtures, golden, json};
use fewstep_models::params::Weights;
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::weights::Folder;
use fewstep_train::ema::Average;
use fewstep_train::gradients::Gradients;
use fewstep_train::step::{Objective, StepInputs};
use fewstep_train::student::Unets;
use fewstep_train::update::{Update, Updater};
use fewstep_train::{Config, replay};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// A teacher made of a fixture's UNet and the scheduler that the case asks for.
fn teacher(folder: &Path, case: &Value) {
    let models = fixtures().join("models");
    let model = models.join(case["model"].as_str().unwrap());
    let from = case["scheduler"]
        .as_str()
        .map_or(model.clone(), |name| models.join(name));
    let mut scheduler = json(&from.join("scheduler/scheduler_config.json"));
    if let Some(kind) = case["prediction_type"].as_str() {
        scheduler["prediction_type"] = kind.into();
    }
    std::fs::create_dir_all(folder.join("scheduler")).unwrap();
    std::fs::write(
        folder.join("scheduler/scheduler_config.json"),
        scheduler.to_string(),
    )
    .unwrap();
    std::fs::create_dir_all(folder.join("unet")).unwrap();
    for file in std::fs::read_dir(model.join("unet")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join("unet").join(file.file_name())).unwrap();
    }
}

fn options(case: &Value, teacher: &Path) -> Config {
    let word = |key: &str| case[key].to_string().replace(['"', '[', ']'], "");
    let flags: Vec<(&str, String)> = [
        "loss_type",
        "huber_c",
        "num_ddim_timesteps",
        "timestep_scaling_factor",
        "unet_time_cond_proj_dim",
        "lora_rank",
        "lora_alpha",
        "lora_target_modules",
    ]
    .into_iter()
    .filter(|key| !case[*key].is_null())
    .map(|key| (key, word(key)))
    .collect();
    let mut all: Vec<(&str, &str)> = flags.iter().map(|(key, word)| (*key, word.as_str())).collect();
    all.push(("pretrained_teacher_model", teacher.to_str().unwrap()));
    config(&all)
}

#[test]
fn a_step_gives_the_references_loss_and_gradients() {
    let cases = json(&fixtures().join("golden/step.json"));
    for (name, case) in cases.as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        teacher(folder.path(), case);
        let (inputs, wanted) = golden(&format!("step-{name}.safetensors"));
        let got = replay::step(&options(case, folder.path()), inputs).unwrap();
        assert!(got.keys().eq(wanted.keys()), "{name}: other tensors come out");
        for (tensor, want) in &wanted {
            let limit = match tensor.as_str() {
                "loss" | "model_pred" | "target" | "x_prev" => 1e-5,
                _ => 1e-4,
            };
            let off = difference(&got[tensor], want);
            assert!(off <= limit, "{name}: {tensor} is off by {off:e}");
        }
        // The first sample ends at timestep 0, where the target is the solver's estimate itself.
        assert_eq!(got["target"].get(0), got["x_prev"].get(0), "{name}");
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let cases = json(&fixtures().join("golden/step.json"));
    for (name, case) in cases.as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        teacher(folder.path(), case);
        let step = |word: &str| {
            let mut config = options(case, folder.path());
            config.set("gradient_checkpointing", &[word.to_owned()]).unwrap();
            let (inputs, _) = golden(&format!("step-{name}.safetensors"));
            replay::step(&config, inputs).unwrap()
        };
        let plain = step("false");
        for word in ["3", "full", "auto"] {
            assert!(step(word) == plain, "{name} with {word}");
        }
    }
}

#[test]
fn ten_steps_are_the_references() {
    let described = json(&fixtures().join("golden/loop.json"));
    let model = fixtures()
        .join("models")
        .join(described["model"].as_str().unwrap());
    let mut config = options(&described["objective"], &model);
    for (name, value) in described["settings"].as_object().unwrap() {
        config.set(name, &[value.to_string()]).unwrap();
    }
    let (inputs, wanted) = golden("loop.safetensors");
    let folder = Folder::open(&model).unwrap();
    let scheduler = SchedulerConfig::load(&model.join("scheduler")).unwrap();
    let schedule = NoiseSchedule::new(&scheduler).unwrap();
    let objective = Objective::new(&schedule, &config.distillation, Device::Cpu).unwrap();
    let component = folder.component("unet").unwrap();
    let unets = Unets::from_teacher(&component, &config, Kind::Float, Device::Cpu).unwrap();
    let mut updater = Updater::new(&unets.student, &config, 10, None).unwrap();

    let indices: Vec<i64> = Vec::try_from(inputs["index"].flatten(0, -1)).unwrap();
    for step in 0..10 {
        let at = |name: &str| inputs[name].get(step);
        let (latents, noise, w) = (at("latents"), at("noise"), at("w"));
        let batch = w.size()[0] as usize;
        let index = &indices[step as usize * batch..][..batch];
        let output = objective.step(
            &unets.networks(),
            &StepInputs {
                latents: &latents,
                noise: &noise,
                steps: &objective.solver_steps(index, Device::Cpu).unwrap(),
                w: &w,
                cond: &inputs["prompt_embeds"].shallow_clone().into(),
                uncond: &inputs["uncond_prompt_embeds"].shallow_clone().into(),
            },
        );
        let mut gradients = Gradients::default();
        gradients.add(&output.loss, unets.student.compute()).unwrap();
        let average = Average {
            target: unets.target.as_ref().unwrap(),
            mu: config.ema_decay().unwrap(),
        };
        let update = updater
            .apply(
                &unets.student,
                Some(&average),
                gradients,
                &output.loss,
                step as u64,
            )
            .unwrap();
        let Update::Launched { grad_norm, skip, .. } = update else {
            panic!("an f32 update overflowed");
        };
        assert_eq!(skip.double_value(&[]), 0.0);

        let close = |got: &Tensor, want: &Tensor, limit: f64, what: &str| {
            let (got, want) = (got.double_value(&[]), want.double_value(&[]));
            let off = (got - want).abs() / want;
            assert!(
                off <= limit,
                "{what} {step}: {got} instead of {want}, off by {off:e}"
            );
        };
        // The limits of one step's loss and gradients.
        close(&output.loss, &wanted["losses"].get(step), 1e-5, "loss");
        close(&grad_norm, &wanted["grad_norms"].get(step), 1e-4, "gradient norm");
    }
    for (role, weights) in [
        ("student", &unets.student),
        ("target", unets.target.as_ref().unwrap()),
    ] {
        same_weights(role, weights.master(), &wanted, &described["norms"][role]);
    }
}

fn same_weights(
    role: &str,
    weights: &Weights,
    wanted: &std::collections::BTreeMap<String, Tensor>,
    norms: &Value,
) {
    for (name, tensor) in weights.named() {
        let norm = tensor.to_kind(Kind::Double).norm().double_value(&[]);
        let want = norms[name].as_f64().unwrap();
        assert!(
            (norm - want).abs() <= 1e-5 * want.max(1e-3),
            "{role} {name}: {norm} {want}"
        );
        if let Some(want) = wanted.get(&format!("{role}.{name}")) {
            let off = (tensor - want).abs().max().double_value(&[]);
            // Ten steps of at most 1e-4 each: far below one of them.
            assert!(off <= 5e-6, "{role} {name} is off by {off:e}");
        }
    }
}

/// The target of a sample that ends at timestep 0 is the solver's estimate, and its network is not even
/// asked: one that is broken does no harm there.
#[test]
fn the_target_is_not_asked_at_the_boundary() {
    let model = fixtures().join("models/tiny-sd2");
    let folder = Folder::open(&model).unwrap();
    let scheduler = SchedulerConfig::load(&model.join("scheduler")).unwrap();
    let schedule = NoiseSchedule::new(&scheduler).unwrap();
    // With a step for every timestep, the first two of them end at 0.
    for (count, n, asked) in [
        ("50", [0, 0], [false, false]),
        ("50", [0, 1], [false, true]),
        ("1000", [1, 2], [false, true]),
    ] {
        let config = config(&[("num_ddim_timesteps", count)]);
        let objective = Objective::new(&schedule, &config.distillation, Device::Cpu).unwrap();
        let component = folder.component("unet").unwrap();
        let unets = Unets::from_teacher(&component, &config, Kind::Float, Device::Cpu).unwrap();
        for tensor in unets.target.as_ref().unwrap().compute().tensors() {
            let _ = tensor.shallow_clone().fill_(f64::NAN);
        }
        let (inputs, _) = golden("loop.safetensors");
        let at = |name: &str| inputs[name].get(0);
        let output = objective.step(
            &unets.networks(),
            &StepInputs {
                latents: &at("latents"),
                noise: &at("noise"),
                steps: &objective.solver_steps(&n, Device::Cpu).unwrap(),
                w: &at("w"),
                cond: &inputs["prompt_embeds"].shallow_clone().into(),
                uncond: &inputs["uncond_prompt_embeds"].shallow_clone().into(),
            },
        );
        for (row, asked) in asked.into_iter().enumerate() {
            let row = row as i64;
            let broken = output.target.get(row).isnan().any().int64_value(&[]) == 1;
            assert_eq!(broken, asked, "N = {count}, n = {n:?}");
            assert_eq!(output.target.get(row) == output.x_prev.get(row), !asked);
        }
    }
}
