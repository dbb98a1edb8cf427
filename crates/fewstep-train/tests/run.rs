//! Whole runs on a tiny model: resuming bit by bit, accumulation, checkpoints, interruption. One file, since every test
//! binary links LibTorch anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "run/caching.rs"]
mod caching;
mod common;
#[path = "run/ranks.rs"]
mod ranks;
#[path = "run/same_samples.rs"]
mod same_samples;
#[path = "run/validating.rs"]
mod validating;

use std::path::Path;
use std::sync::Mutex;

use common::runs::{
    ADAPTERS, AVERAGED_ADAPTERS, StopAfter, WHOLE, losses, names, options, same_tensors, train, weights,
};
use common::{difference, fixtures, json};
use fewstep_models::weights::read_tensors;
use fewstep_train::{Ending, Event, Observer, Skip, Start, StepMetrics, Stop, TrainError, run};
use serde_json::Value;
use tch::{Kind, Tensor};

/// Two runs of one length, of which the second is stopped in between, are the same bit by bit (F25): their
/// losses, and these files of the results and of the last checkpoint.
fn resumes_bit_by_bit(flags: &[(&str, &str)], files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (straight, broken) = (folder.path().join("a"), folder.path().join("b"));
    train(&options(&straight, flags));

    let stop = Stop::new();
    let config = options(&broken, flags);
    let report = run(&config, &stop, &mut StopAfter(2, &stop)).unwrap();
    assert!(matches!(report.ending, Ending::Interrupted { .. }));
    assert_eq!(report.steps, 2);
    assert!(broken.join("checkpoint-2/state.json").is_file());
    let report = train(&config);
    assert_eq!((report.ending, report.steps), (Ending::Finished, 6));

    assert_eq!(step_lines(&straight), step_lines(&broken));
    assert_eq!(losses(&straight).len(), 6);
    for folder in [".", "checkpoint-6"] {
        for file in files {
            same_tensors(&straight.join(folder).join(file), &broken.join(folder).join(file));
        }
    }
    let state = Path::new("checkpoint-6/optimizer.safetensors");
    same_tensors(&straight.join(state), &broken.join(state));
}

#[test]
fn a_run_that_was_stopped_ends_as_if_it_had_not_been() {
    resumes_bit_by_bit(&[], &WHOLE);
}

#[test]
fn so_does_one_in_bf16_with_accumulation_and_threads() {
    let flags = [
        ("mixed_precision", "bf16"),
        ("gradient_accumulation_steps", "2"),
        ("train_batch_size", "2"),
        ("dataloader_num_workers", "2"),
        ("lr_scheduler", "cosine"),
        ("lr_warmup_steps", "2"),
    ];
    resumes_bit_by_bit(&flags, &WHOLE);
}

/// Held by tests with dropout: LibTorch's generator belongs to the whole process.
static DROPOUT: Mutex<()> = Mutex::new(());

#[test]
fn so_do_adapters_with_dropout_and_a_moving_average() {
    let _alone = DROPOUT.lock();
    let flags = [
        ("lora_rank", "3"),
        ("lora_alpha", "5"),
        ("lora_dropout", "0.2"),
        ("ema_decay", "0.9"),
    ];
    resumes_bit_by_bit(&flags, &[ADAPTERS, AVERAGED_ADAPTERS]);
}

#[test]
fn so_does_one_with_moments_in_8_bits() {
    let flags = [
        ("use_8bit_adam", ""),
        ("gradient_checkpointing", "full"),
        ("mixed_precision", "bf16"),
        ("lora_rank", "32"),
        ("ema_decay", "0.9"),
    ];
    resumes_bit_by_bit(&flags[..3], &WHOLE);
    resumes_bit_by_bit(&flags, &[ADAPTERS, AVERAGED_ADAPTERS]);
}

#[test]
fn moments_in_the_other_form_are_refused() {
    for (there, said) in [
        ("true", "AdamW's moments in 8 bits: give --use_8bit_adam to go on"),
        (
            "false",
            "AdamW's moments in 32 bits: leave --use_8bit_adam out to go on",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let asked = |eight_bits: &str, more: &[(&str, &str)]| {
            let flags = [("use_8bit_adam", eight_bits), ("max_train_steps", "2")];
            let more = more.iter().copied();
            options(folder.path(), &flags.into_iter().chain(more).collect::<Vec<_>>())
        };
        train(&asked(there, &[]));
        let state = read_tensors(&folder.path().join("checkpoint-2/optimizer.safetensors")).unwrap();
        let in_8_bits = state.values().any(|tensor| tensor.kind() == Kind::Uint8);
        assert_eq!(in_8_bits, there == "true");
        let other = if in_8_bits { "false" } else { "true" };
        for more in [&[][..], &[("resume_from_checkpoint", "latest")]] {
            let error = run(&asked(other, more), &Stop::new(), &mut ()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("checkpoint-2 holds") && error.contains(said),
                "{error}"
            );
        }
    }
}

#[test]
fn so_does_sdxl() {
    let sdxl = fixtures().join("models/tiny-sdxl");
    let flags = [("pretrained_teacher_model", sdxl.to_str().unwrap())];
    resumes_bit_by_bit(&flags, &WHOLE);
    let flags = [flags[0], ("lora_rank", "2"), ("mixed_precision", "bf16")];
    resumes_bit_by_bit(&flags, &[ADAPTERS]);
}

/// The lines of a run's steps, without what the clock and the machine have to do with.
fn step_lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line.get("loss").is_some())
        .map(|mut line| {
            for name in ["time", "samples_per_s", "data_wait_s", "memory_gb"] {
                assert!(line.as_object_mut().unwrap().remove(name).is_some(), "{name}");
            }
            line
        })
        .collect()
}

/// A run into its second epoch, with bad samples among them, gone on with three times, each time with another number of
/// threads, is the run that was never stopped: its lines, its weights, its optimiser and its place in the data.
fn goes_on_three_times(flags: &[(&str, &str)], files: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let shards = format!("{0}/good.tar::{0}/defects.tar", fixtures().join("data").display());
    let train_to = |output_dir: &Path, steps: &str, threads: &str| {
        let mut all = flags.to_vec();
        all.extend([
            ("train_shards_path_or_url", &*shards),
            ("gradient_accumulation_steps", "2"),
            ("max_train_steps", steps),
            ("dataloader_num_workers", threads),
            ("min_size", "0"),
        ]);
        train(&options(output_dir, &all))
    };
    let (straight, broken) = (folder.path().join("a"), folder.path().join("b"));
    train_to(&straight, "8", "0");
    for (steps, threads) in [("1", "3"), ("2", "0"), ("5", "2"), ("8", "1")] {
        train_to(&broken, steps, threads);
    }
    let lines = step_lines(&straight);
    assert_eq!(lines, step_lines(&broken));
    assert_eq!(lines.len(), 8);
    let state = |folder: &Path| json(&folder.join("checkpoint-8/state.json"))["state"]["cursor"].clone();
    assert_eq!(state(&straight), state(&broken));
    assert_eq!(state(&straight)["position"]["epoch"], 1);
    for file in files.iter().chain([&"optimizer.safetensors"]) {
        let file = Path::new("checkpoint-8").join(file);
        same_tensors(&straight.join(&file), &broken.join(&file));
    }
    lines
}

#[test]
fn a_run_may_be_gone_on_with_again_and_again() {
    let lines = goes_on_three_times(&[], &WHOLE);
    assert!(
        lines[7]["dropped"]["bad_picture"].as_u64() >= Some(3),
        "{:?}",
        lines[7]
    );
    goes_on_three_times(&[("mixed_precision", "bf16")], &WHOLE);
}

#[test]
fn so_may_one_of_adapters() {
    let flags = [("lora_rank", "2"), ("ema_decay", "0.9")];
    goes_on_three_times(&flags, &[ADAPTERS, AVERAGED_ADAPTERS]);
    goes_on_three_times(
        &[flags[0], ("mixed_precision", "bf16"), ("resample", "")],
        &[ADAPTERS],
    );
}

#[test]
fn a_list_of_shards_that_changed_is_said_and_the_run_goes_on() {
    #[derive(Default)]
    struct Moved(Vec<String>);
    impl Observer for Moved {
        fn event(&mut self, event: &Event) {
            if let Event::DataMoved(resumed) = event {
                self.0.push(resumed.to_string());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    train(&options(folder.path(), &[("max_train_steps", "2")]));
    let shards = format!("{0}/good.tar::{0}/defects.tar", fixtures().join("data").display());
    let mut flags = vec![("max_train_steps", "4"), ("train_shards_path_or_url", &*shards)];
    let error = run(&options(folder.path(), &flags), &Stop::new(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("train_shards_path_or_url"), "{error}");

    flags.push(("resume_from_checkpoint", "latest"));
    let mut moved = Moved::default();
    let report = run(&options(folder.path(), &flags), &Stop::new(), &mut moved).unwrap();
    assert_eq!((report.steps, report.samples), (4, 16));
    assert!(
        moved.0.len() == 1 && moved.0[0].contains("next epoch") && moved.0[0].contains("was 1 and is 2"),
        "{:?}",
        moved.0
    );
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let line = text.lines().find(|line| line.contains(r#""resume""#)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let changes = line["data"]["next_epoch"]["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &line["step"]), (1, &Value::from(2)));
}

#[test]
fn adapters_are_learned_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("method", "lora"),
        ("lora_rank", "2"),
        ("lora_target_modules", "to_q,conv_in"),
        ("checkpointing_steps", "4"),
        ("max_train_steps", "4"),
        ("lr_scheduler", "constant"),
    ];
    train(&options(folder.path(), &flags));
    let left = [
        ".lock",
        "README.md",
        "checkpoint-4",
        "config.toml",
        "finished.json",
        "logs",
        "lora_kohya.safetensors",
        "metrics.jsonl",
        ADAPTERS,
        "scheduler",
    ];
    assert_eq!(names(folder.path()), left);
    let adapters = read_tensors(&folder.path().join(ADAPTERS)).unwrap();
    let conv_in = &adapters["unet.conv_in.lora_B.weight"];
    assert_eq!(conv_in.size(), [8, 2, 1, 1]);
    assert!(
        adapters
            .keys()
            .all(|name| name.contains("conv_in") || name.contains(".to_q."))
    );
    // B starts as zeros.
    for (name, tensor) in &adapters {
        assert!(tensor.abs().max().double_value(&[]) > 0.0, "{name}");
    }
}

#[test]
fn dropout_changes_what_is_learned() {
    let _alone = DROPOUT.lock();
    let loss = |dropout: &str| {
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            ("lora_rank", "2"),
            ("lora_dropout", dropout),
            ("max_train_steps", "3"),
        ];
        train(&options(folder.path(), &flags));
        losses(folder.path())
    };
    let (without, with) = (loss("0"), loss("0.5"));
    // Adapters that are zeros drop nothing.
    assert_eq!(without[0], with[0]);
    assert_ne!(without[2], with[2]);
}

#[test]
fn sdxl_is_told_the_sizes_and_fixed_ones_if_asked() {
    let first_loss = |flags: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let sdxl = fixtures().join("models/tiny-sdxl");
        let mut all = vec![
            ("pretrained_teacher_model", sdxl.to_str().unwrap()),
            ("max_train_steps", "1"),
            ("center_crop", ""),
        ];
        all.extend(flags);
        train(&options(folder.path(), &all));
        losses(folder.path())[0].1
    };
    // The same crop, told in two ways.
    assert_ne!(first_loss(&[]), first_loss(&[("use_fix_crop_and_size", "")]));
}

#[test]
fn two_batches_of_four_are_one_of_eight() {
    let folder = tempfile::tempdir().unwrap();
    // Adam divides a gradient by its own size, which makes whole steps of rounding errors in tiny ones. With
    // a large epsilon the update is as smooth as the gradient; without clipping it is as large.
    let flags = |batch, accumulation| {
        [
            ("train_batch_size", batch),
            ("gradient_accumulation_steps", accumulation),
            ("max_train_steps", "1"),
            ("checkpointing_steps", "0"),
            ("adam_epsilon", "1"),
            ("max_grad_norm", "1000"),
        ]
    };
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    train(&options(&a, &flags("8", "1")));
    train(&options(&b, &flags("4", "2")));
    for ((step, one), (_, two)) in losses(&a).into_iter().zip(losses(&b)) {
        assert!((one - two).abs() < 1e-5 * one, "step {step}: {one} {two}");
    }
    let (one, two) = (
        read_tensors(&weights(&a, "unet")).unwrap(),
        read_tensors(&weights(&b, "unet")).unwrap(),
    );
    for (name, tensor) in &one {
        let off = difference(&two[name], tensor);
        assert!(off < 1e-4, "{name} is off by {off:e}");
    }
    assert_eq!(
        names(&a),
        [
            ".lock",
            "README.md",
            "config.toml",
            "finished.json",
            "logs",
            "metrics.jsonl",
            "scheduler",
            "unet",
            "unet_target"
        ]
    );
}

#[test]
fn old_checkpoints_go_and_the_results_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("checkpointing_steps", "1"),
        ("checkpoints_total_limit", "2"),
        ("max_train_steps", "4"),
        ("num_ddim_timesteps", "25"),
        ("timestep_scaling_factor", "8"),
    ];
    let config = options(folder.path(), &flags);
    let report = train(&config);
    assert_eq!((report.steps, report.samples), (4, 16));
    assert_eq!(
        names(folder.path()),
        [
            ".lock",
            "README.md",
            "checkpoint-3",
            "checkpoint-4",
            "config.toml",
            "finished.json",
            "logs",
            "metrics.jsonl",
            "scheduler",
            "unet",
            "unet_target"
        ]
    );
    assert_eq!(
        names(&folder.path().join("checkpoint-4")),
        ["optimizer.safetensors", "state.json", "unet", "unet_target"]
    );
    let scheduler = json(&folder.path().join("scheduler/scheduler_config.json"));
    assert_eq!(scheduler["_class_name"], "LCMScheduler");
    assert_eq!(scheduler["original_inference_steps"], 25);
    assert_eq!(scheduler["timestep_scaling"], 8.0);
    let unet = json(&folder.path().join("unet/config.json"));
    assert_eq!(unet["time_cond_proj_dim"], 256);

    // The same command again finds the run finished, and leaves it as it was.
    let before = losses(folder.path());
    let again = train(&config);
    assert_eq!((again.steps, again.samples), (4, 16));
    assert_eq!(again.ending, Ending::FinishedBefore);
    assert_eq!(losses(folder.path()), before);
    // Without the note, or without the results, the last checkpoint says the same, and they are written again.
    for gone in ["finished.json", "unet/config.json"] {
        std::fs::remove_file(folder.path().join(gone)).unwrap();
        let again = train(&config);
        assert_eq!((again.steps, again.ending), (4, Ending::Finished));
        assert_eq!(losses(folder.path()), before);
        assert!(folder.path().join(gone).is_file());
    }

    // Another one is refused, unless it is asked for by name.
    let mut other = config;
    other.optimizer.learning_rate = Some(2e-3);
    other.data.max_train_steps = Some(5);
    let error = run(&other, &Stop::new(), &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::OtherRun { .. }));
    assert!(
        error
            .to_string()
            .contains("learning_rate is 0.001 there and 0.002 here"),
        "{error}"
    );
    other.run.resume_from_checkpoint = Some("checkpoint-3".to_owned());
    assert_eq!(train(&other).steps, 5);
}

/// The student learns: over the same samples, its loss falls.
#[test]
fn the_loss_falls() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("max_train_steps", "60"),
        ("checkpointing_steps", "0"),
        ("train_batch_size", "8"),
    ];
    train(&options(folder.path(), &flags));
    let losses = losses(folder.path());
    let mean = |part: &[(u64, f64)]| part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
    assert!(last < 0.9 * first, "{first} {last}");
}

#[test]
fn fp16_runs_and_its_skipped_updates_are_no_steps() {
    #[derive(Default)]
    struct Watch {
        skipped: u64,
        steps: Vec<u64>,
        started: Option<Start>,
    }
    impl Observer for Watch {
        fn started(&mut self, start: &Start) {
            self.started = Some(start.clone());
        }
        fn step(&mut self, metrics: &StepMetrics) {
            self.steps.push(metrics.step);
        }
        fn event(&mut self, event: &Event) {
            if let Event::SkippedUpdate {
                cause: Skip::Overflow { .. },
                ..
            } = event
            {
                self.skipped += 1;
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    // A loss this large overflows fp16 at the first scale: the scale has to come down before the first step.
    let flags = [
        ("mixed_precision", "fp16"),
        ("loss_type", "l2"),
        ("w_max", "4000"),
        ("w_min", "4000"),
    ];
    let config = options(folder.path(), &flags);
    let mut watch = Watch::default();
    let report = run(&config, &Stop::new(), &mut watch).unwrap();
    assert!(watch.skipped > 0);
    assert_eq!(report.skipped.overflow, watch.skipped);
    assert_eq!(report.skipped.not_finite, 0);
    assert_eq!(watch.steps, [1, 2, 3, 4, 5, 6]);
    assert_eq!(report.samples, 4 * (6 + watch.skipped));
    assert_eq!(watch.started.unwrap().total_steps, 6);
    let last: Tensor =
        read_tensors(&weights(folder.path(), "unet")).unwrap()["conv_in.weight"].shallow_clone();
    assert!(last.isfinite().all().int64_value(&[]) == 1);
}
