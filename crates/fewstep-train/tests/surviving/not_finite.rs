//! Runs whose losses or gradients are no numbers: named, counted, skipped up to a limit, and left to be looked into.

use std::path::Path;

use super::common::runs::{
    StopAfter, Told, WHOLE, error, lines, losses, names, options, poisoned, same_tensors, train,
};
use fewstep_models::params::{Init, Layout, Weights};
use fewstep_models::weights::read_tensors;
use fewstep_train::ema::Average;
use fewstep_train::gradients::Gradients;
use fewstep_train::precision::Mastered;
use fewstep_train::update::{Update, Updater};
use fewstep_train::{Config, Stop, TrainError, replay, run};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// A run on the poisoned teacher.
fn poisoned_run(teacher: &Path, out: &Path, flags: &[(&str, &str)]) -> Config {
    let own = [
        ("pretrained_teacher_model", teacher.to_str().unwrap()),
        ("train_batch_size", "1"),
        ("nan_limit", "100"),
        ("proportion_empty_prompts", "0"),
        ("checkpointing_steps", "2"),
    ];
    let mut all: Vec<(&str, &str)> = flags.to_vec();
    all.extend(
        own.iter()
            .filter(|(name, _)| !flags.iter().any(|(other, _)| other == name)),
    );
    options(out, &all)
}

/// The samples whose caption has the word.
const POISONED: [&str; 8] = [
    "00008", "00009", "00010", "00011", "00020", "00021", "00022", "00023",
];

fn is_poisoned(key: &str) -> bool {
    POISONED.iter().any(|name| key.ends_with(name))
}

#[test]
fn updates_that_are_not_finite_are_named_counted_and_change_nothing() {
    for precision in ["no", "bf16", "fp16"] {
        let folder = tempfile::tempdir().unwrap();
        let (teacher, out) = (poisoned(folder.path()), folder.path().join("run"));
        let flags = [
            ("mixed_precision", precision),
            ("gradient_accumulation_steps", "2"),
        ];
        let config = poisoned_run(&teacher, &out, &flags);
        let mut told = Told::default();
        let report = run(&config, &Stop::new(), &mut told).unwrap();
        let found = told.not_finite();
        assert!(found.len() >= 2, "{precision}: {found:?}");
        for found in &found {
            assert_eq!(
                (found.what, found.stage),
                ("loss", Some("the text encoder's embedding"))
            );
            assert!(!found.samples.is_empty() && found.samples.len() <= 2);
            assert!(
                found.samples.iter().all(|sample| is_poisoned(&sample.key)),
                "{found}"
            );
            assert!(
                found
                    .samples
                    .iter()
                    .all(|sample| (0..1000).contains(&sample.timestep))
            );
        }
        // They are counted, are no steps, and their samples are seen.
        let skipped = &report.skipped;
        assert_eq!(skipped.not_finite, found.len() as u64);
        assert_eq!((report.steps, report.samples), (6, 2 * (6 + skipped.total())));
        let lines = lines(&out);
        let event = |line: &&Value| line["cause"] == "not_finite";
        assert_eq!(lines.iter().filter(event).count(), found.len());
        let last = lines
            .iter()
            .rfind(|line| line["step"] == 6 && line.get("loss").is_some());
        assert!(last.unwrap()["skipped"]["not_finite"].as_u64().unwrap() >= 1);
        assert_eq!(
            losses(&out).iter().map(|(step, _)| *step).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6]
        );
        for file in WHOLE {
            for (name, tensor) in read_tensors(&out.join(file)).unwrap() {
                assert!(
                    tensor.isfinite().all().int64_value(&[]) == 1,
                    "{precision}: {name}"
                );
            }
        }
    }
}

#[test]
fn skipped_updates_do_not_depend_on_when_they_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = poisoned(folder.path());
    let (never, always, broken) = ["a", "b", "c"].map(|name| folder.path().join(name)).into();
    // The learning rate tells one step from another.
    let schedule = [("lr_scheduler", "linear"), ("lr_warmup_steps", "3")];
    let with = |out: &Path, every| {
        let flags = [
            schedule[0],
            schedule[1],
            ("gradient_accumulation_steps", "2"),
            ("checkpointing_steps", every),
        ];
        poisoned_run(&teacher, out, &flags)
    };
    train(&with(&never, "0"));
    train(&with(&always, "1"));
    let stop = Stop::new();
    let config = with(&broken, "5");
    run(&config, &stop, &mut StopAfter(3, &stop)).unwrap();
    let report = train(&config);
    assert!(report.skipped.not_finite >= 2, "{report:?}");
    for other in [&always, &broken] {
        assert_eq!(losses(&never), losses(other));
        for file in WHOLE {
            same_tensors(&never.join(file), &other.join(file));
        }
    }
}

#[test]
fn the_first_one_ends_the_run_where_that_is_asked_and_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, out) = (poisoned(folder.path()), folder.path().join("run"));
    let config = poisoned_run(&teacher, &out, &[("on_nan", "stop")]);
    let text = error(&config);
    assert!(
        text.starts_with("an update was not finite, the last one after step")
            && text.contains("its loss is NaN: the text encoder's embedding is not finite for sample"),
        "{text}"
    );
    // The student's learning rate has nothing to do with it, nor has a limit that does not apply.
    assert!(
        text.contains("--on_nan skip") && !text.contains("--learning_rate") && !text.contains("--nan_limit"),
        "{text}"
    );
    assert!(
        text.contains("good.tar") && text.contains("at timestep"),
        "{text}"
    );
    let inputs = names(&out)
        .into_iter()
        .find(|name| name.starts_with("not-finite-"))
        .unwrap();
    assert!(
        text.contains(&inputs) && text.contains("fewstep debug step"),
        "{text}"
    );
    let inputs = read_tensors(&out.join(inputs)).unwrap();
    assert!(inputs["prompt_embeds"].isfinite().all().int64_value(&[]) == 0);
    let outputs = replay::step(&config, inputs).unwrap();
    assert!(outputs["loss"].double_value(&[]).is_nan());
}

#[test]
fn a_student_that_diverged_ends_the_run_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("learning_rate", "1e30"),
        ("nan_limit", "3"),
        ("checkpointing_steps", "0"),
    ];
    let config = options(folder.path(), &flags);
    let mut told = Told::default();
    let error = run(&config, &Stop::new(), &mut told).unwrap_err();
    assert!(
        matches!(error, TrainError::NotFinite { skipped: 4, .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("Lower --learning_rate") && text.contains("raise --nan_limit"),
        "{text}"
    );
    assert_eq!(told.not_finite().len(), 3);
    // Only with the weights that it had does the step go wrong again.
    let file = names(folder.path())
        .into_iter()
        .find(|name| name.starts_with("not-finite-"))
        .unwrap();
    let inputs = read_tensors(&folder.path().join(file)).unwrap();
    let finite = |without: &[&str]| {
        let kept = inputs
            .iter()
            .filter(|(name, _)| !without.iter().any(|prefix| name.starts_with(prefix)));
        let kept = kept.map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
        let outputs = replay::step(&config, kept).unwrap();
        ["model_pred", "target"].map(|name| outputs[name].isfinite().all().int64_value(&[]) == 1)
    };
    assert_eq!(finite(&[]), [false, false]);
    assert_eq!(finite(&["init."]), [true, false]);
    assert_eq!(finite(&["init_target."]), [false, false]);
    assert_eq!(finite(&["init.", "init_target."]), [true, true]);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_though_the_loss_is() {
    let (_, layout) = Layout::build(|root| root.param("weight", &[3], Init::Ones));
    let student = Mastered::trainable(Weights::random(&layout, Device::Cpu), Kind::Float);
    let mut updater = Updater::new(&student, &super::common::config(&[]), 10, None).unwrap();
    let mut update = |loss: Tensor| {
        let mut gradients = Gradients::default();
        gradients.add(&loss, student.compute()).unwrap();
        match updater.apply(&student, None, gradients, &loss, 0).unwrap() {
            Update::Launched { skip, .. } => skip.double_value(&[]),
            Update::Overflow { .. } => panic!("there is no scale in f32"),
        }
    };
    let x = &student.compute().tensors()[0];
    // The root has no slope at 0.
    assert_eq!(update((x * 0.0).sqrt().sum(Kind::Float)), 1.0);
    assert_eq!(
        Vec::<f32>::try_from(&student.master().tensors()[0]).unwrap(),
        [1.0; 3]
    );
    assert_eq!(update((x * f64::INFINITY).sum(Kind::Float)), 1.0);
    assert_eq!(update(x.sum(Kind::Float)), 0.0);
    assert_ne!(
        Vec::<f32>::try_from(&student.master().tensors()[0]).unwrap(),
        [1.0; 3]
    );
}

#[test]
fn a_skipped_update_leaves_the_moving_average_where_it_is() {
    let (_, layout) = Layout::build(|root| root.param("weight", &[2], Init::Ones));
    let student = Mastered::trainable(Weights::random(&layout, Device::Cpu), Kind::Float);
    let target = Mastered::frozen(
        Weights::random(&layout, Device::Cpu).map(|x| x * 3.0),
        Kind::Float,
    );
    let config = super::common::config(&[("learning_rate", "0.125"), ("adam_weight_decay", "0")]);
    let mut updater = Updater::new(&student, &config, 10, None).unwrap();
    let mut moved = |slope: f64| {
        let loss = (&student.compute().tensors()[0] * slope).sum(Kind::Float);
        let mut gradients = Gradients::default();
        gradients.add(&loss, student.compute()).unwrap();
        let average = Average {
            target: &target,
            mu: 0.5,
        };
        updater
            .apply(&student, Some(&average), gradients, &loss, 0)
            .unwrap();
        [target.master(), target.compute()].map(|weights| weights.tensors()[0].double_value(&[0]))
    };
    assert_eq!(moved(f64::NAN), [3.0, 3.0]);
    // Adam's first step has the length of the learning rate: from 1 to 0.875.
    assert_eq!(moved(1.0), [1.9375, 1.9375]);
}
