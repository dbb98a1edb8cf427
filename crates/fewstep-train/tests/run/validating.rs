//! Validation pictures of tiny runs: what is painted, that training does not notice it, and that nothing of it ends a run.

use std::path::Path;

use fewstep_models::pipeline::Rgb8;
use fewstep_train::picture::{cut, read_png};
use fewstep_train::{Config, Event, Stop, run};
use serde_json::Value;

use super::DROPOUT;
use super::common::fixtures;
use super::common::runs::{
    ADAPTERS, StopAfter, Told, WHOLE, lines, losses, names, options, same_tensors, train,
};
use super::ranks::run_ranks;

/// Options of a run that paints three prompts after the second and the fourth step.
fn painting(output_dir: &Path, flags: &[(&str, &str)]) -> Config {
    let mut all = vec![
        ("validation_steps", "2"),
        ("validation_inference_steps", "2"),
        ("validation_teacher_steps", "3"),
        ("max_train_steps", "5"),
    ];
    all.retain(|(name, _)| !flags.iter().any(|(other, _)| other == name));
    all.extend(flags);
    let mut config = options(output_dir, &all);
    let prompts = ["a red circle", "two cats", "\u{7ea2}"].map(str::to_owned);
    config.set("validation_prompts", &prompts).unwrap();
    config
}

/// The pictures of a grid, row by row, and what it says of itself.
fn pictures(run: &Path, name: &str, count: usize, columns: usize) -> (Vec<Rgb8>, Value) {
    let (grid, notes) = read_png(&run.join("samples").join(name), "fewstep").unwrap();
    (
        cut(&grid, count, columns).unwrap(),
        serde_json::from_str(&notes).unwrap(),
    )
}

/// Trains twice, with and without pictures: losses and weights are the same to the bit.
fn is_not_noticed(flags: &[(&str, &str)], files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    train(&painting(&with, flags));
    let mut plain = painting(&without, flags);
    plain.validation.validation_steps = 0;
    train(&plain);
    assert!(!without.join("samples").exists());
    assert_eq!(losses(&with), losses(&without));
    for file in files {
        same_tensors(&with.join(file), &without.join(file));
    }
    folder
}

#[test]
fn training_does_not_notice_that_pictures_are_painted() {
    let folder = is_not_noticed(&[("num_validation_images", "2")], &WHOLE);
    let run = folder.path().join("with");
    assert_eq!(
        names(&run.join("samples")),
        ["step-000002.png", "step-000004.png", "teacher.png"]
    );
    // Rows of two by the teacher, two by the student, two by its average.
    let (second, notes) = pictures(&run, "step-000002.png", 18, 6);
    let (fourth, _) = pictures(&run, "step-000004.png", 18, 6);
    let (teachers, _) = pictures(&run, "teacher.png", 6, 2);
    assert_eq!((second[0].width, second[0].height), (32, 32));
    for (nth, (before, after)) in second.iter().zip(&fourth).enumerate() {
        let (row, column) = (nth / 6, nth % 6);
        match column {
            0 | 1 => assert!(before == after && *after == teachers[2 * row + column], "{nth}"),
            _ => assert_ne!(before, after, "{nth}"),
        }
    }
    assert_ne!(teachers[0], teachers[1]);
    assert_eq!(
        notes["columns"],
        serde_json::json!(["teacher", "student", "moving average"])
    );
    // The trained range of w goes from 5 to 15.
    assert_eq!(
        (&notes["guidance_scale"], &notes["seed"]),
        (&7.5.into(), &11.into())
    );

    let events: Vec<Value> = lines(&run)
        .into_iter()
        .filter(|line| line["event"] == "validation")
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["step"], 4);
    assert_eq!(events[1]["path"], "samples/step-000004.png");
    assert_eq!(events[1]["prompts"][1], "two cats");
    let card = std::fs::read_to_string(run.join("README.md")).unwrap();
    assert!(
        card.contains("(samples/step-000004.png)") && card.contains("- two cats"),
        "{card}"
    );
}

#[test]
fn nor_do_adapters_in_bf16_with_dropout() {
    let _alone = DROPOUT.lock();
    let sdxl = fixtures().join("models/tiny-sdxl");
    let flags = [
        ("pretrained_teacher_model", sdxl.to_str().unwrap()),
        ("lora_rank", "2"),
        ("lora_dropout", "0.5"),
        ("mixed_precision", "bf16"),
    ];
    let folder = is_not_noticed(&flags, &[ADAPTERS]);
    // Without an average there are two columns; the guidance is in the adapters.
    let (_, notes) = pictures(&folder.path().join("with"), "step-000004.png", 6, 2);
    assert_eq!(notes["columns"], serde_json::json!(["teacher", "student"]));
    assert_eq!(notes["guidance_scale"], 1.0);
}

#[test]
fn a_run_that_goes_on_paints_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let straight = folder.path().join("straight");
    train(&painting(&straight, &[]));
    // The wish to stop comes while pictures are due after step 2, and while step 4 is computed.
    for (wish, stopped, painted) in [(3, 2, false), (5, 4, true)] {
        let broken = folder.path().join(format!("{wish}"));
        let stop = Stop::new();
        let config = painting(&broken, &[]);
        let report = run(&config, &stop, &mut StopAfter(wish, &stop)).unwrap();
        assert_eq!(report.steps, stopped);
        let teacher = broken.join("samples/teacher.png");
        let modified = || teacher.metadata().and_then(|data| data.modified()).ok();
        let before = modified();
        assert_eq!(before.is_some(), painted);
        if painted {
            assert!(!broken.join("samples/step-000004.png").exists());
            // What a run that was cut off had painted after its last checkpoint goes.
            std::fs::write(broken.join("samples/step-000006.png"), "later").unwrap();
        }
        train(&config);
        assert!(!painted || modified() == before);
        assert_eq!(names(&straight.join("samples")), names(&broken.join("samples")));
        for name in ["step-000002.png", "step-000004.png"] {
            let (one, other) = (pictures(&straight, name, 9, 3), pictures(&broken, name, 9, 3));
            assert!(one.0 == other.0, "{name}");
        }
    }
}

#[test]
fn ranks_share_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, shared) = (folder.path().join("a"), folder.path().join("b"));
    let shards = format!("{0}/good.tar::{0}/defects.tar", fixtures().join("data").display());
    // One at a time, so that a picture does not depend on what is painted beside it.
    let flags = [
        ("train_batch_size", "1"),
        ("max_train_steps", "2"),
        ("min_size", "0"),
        ("train_shards_path_or_url", &*shards),
    ];
    train(&painting(&alone, &flags));
    let outcomes = run_ranks(vec![painting(&shared, &flags); 2]);
    for (report, _) in &outcomes {
        assert_eq!(report.as_ref().unwrap().steps, 2);
    }
    assert!(
        outcomes[0]
            .1
            .events
            .iter()
            .any(|event| matches!(event, Event::Validated { step: 2, .. }))
    );
    let teacher = |run: &Path| pictures(run, "teacher.png", 3, 1).0;
    assert_eq!(teacher(&alone), teacher(&shared));
    let (grid, _) = pictures(&shared, "step-000002.png", 9, 3);
    assert_eq!(grid[3], teacher(&shared)[1]);
}

#[test]
fn pictures_that_cannot_be_written_end_no_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("samples"), "in the way").unwrap();
    let mut told = Told::default();
    let report = run(&painting(folder.path(), &[]), &Stop::new(), &mut told).unwrap();
    assert_eq!(report.steps, 5);
    let reasons: Vec<&str> = told
        .events
        .iter()
        .filter_map(|event| match event {
            Event::NotValidated { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    assert!(
        reasons.len() == 2 && reasons[0].contains("samples"),
        "{reasons:?}"
    );
    assert!(
        lines(folder.path())
            .iter()
            .any(|line| line["event"] == "validation_failed")
    );
}
