//! `fewstep train` on the tiny model: to the end, stopped and gone on with, and on data that is no good.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fewstep_models::weights::read_tensors;
use serde_json::Value;
use tempfile::TempDir;

use super::common::{Ran, command, fewstep, fixture, word};

/// A run of the tiny teacher in `out` on the good shard, or on other shards, with further flags.
pub(crate) fn line(out: &Path, flags: &[&str]) -> Vec<String> {
    let mut words = without_data(out, flags);
    if !flags.iter().any(|flag| flag.starts_with("--train_shards")) {
        words.push(format!(
            "--train_shards_path_or_url={}",
            word(fixture("data/good.tar"))
        ));
    }
    words
}

/// A run of the tiny teacher in `out` on data that the flags name.
pub(crate) fn without_data(out: &Path, flags: &[&str]) -> Vec<String> {
    let mut words = vec![
        "train".to_owned(),
        format!("--pretrained_teacher_model={}", word(fixture("models/tiny-sd"))),
        format!("--output_dir={}", word(out)),
        "--device=cpu".to_owned(),
        "--resolution=32".to_owned(),
        "--train_batch_size=2".to_owned(),
        "--learning_rate=1e-3".to_owned(),
        "--seed=3".to_owned(),
    ];
    words.extend(flags.iter().map(|flag| (*flag).to_owned()));
    words
}

/// The lines of metrics.jsonl.
fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn losses(out: &Path) -> Vec<(u64, f64)> {
    let number = |line: &Value| Some((line["step"].as_u64()?, line["loss"].as_f64()?));
    metrics(out).iter().filter_map(number).collect()
}

pub(crate) fn same_weights(a: &Path, b: &Path, component: &str) {
    let read =
        |out: &Path| read_tensors(&out.join(component).join("diffusion_pytorch_model.safetensors")).unwrap();
    let (a, b) = (read(a), read(b));
    assert_eq!(a.len(), b.len());
    for (name, tensor) in &a {
        assert_eq!(tensor, &b[name], "{component} {name}");
    }
}

#[test]
fn four_steps_leave_a_whole_run_folder() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let flags = [
        "--max_train_steps=4",
        "--checkpointing_steps=1",
        "--checkpoints_total_limit=2",
    ];
    let ran = fewstep(line(&out, &flags)).ok();
    assert!(ran.stderr.contains("step 4/4  loss 0."), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("done after 4 steps and 8 samples"),
        "{}",
        ran.stderr
    );
    for part in [
        "unet/config.json",
        "unet_target/config.json",
        "scheduler/scheduler_config.json",
        "config.toml",
    ] {
        assert!(out.join(part).is_file(), "{part}");
    }
    let kept =
        ["checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"].map(|name| out.join(name).is_dir());
    assert_eq!(kept, [false, false, true, true]);
    assert_eq!(
        losses(&out).iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );

    // The resolved configuration describes the same run.
    let again = folder.path().join("again");
    let config = word(out.join("config.toml"));
    fewstep(["train", "--config", &config, "--output-dir", &word(&again)]).ok();
    assert_eq!(losses(&out), losses(&again));
    same_weights(&out, &again, "unet_target");
}

#[test]
fn a_run_that_was_cut_in_two_ends_as_one_that_was_not() {
    let folder = TempDir::new().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    fewstep(line(&whole, &["--max_train_steps=4"])).ok();
    fewstep(line(&halves, &["--max_train_steps=2", "--checkpointing_steps=2"])).ok();
    let ran = fewstep(line(
        &halves,
        &["--max_train_steps=4", "--resume_from_checkpoint=latest"],
    ))
    .ok();
    assert!(ran.stderr.contains("going on after step 2"), "{}", ran.stderr);
    same_weights(&whole, &halves, "unet");
    same_weights(&whole, &halves, "unet_target");
    assert_eq!(losses(&whole), losses(&halves));
}

/// The guide's own command line, with a teacher and shards that lie here and without what comes later.
#[test]
fn the_guides_line_trains() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let guide = "--mixed_precision=fp16 --loss_type=huber --ema_decay=0.95 --adam_weight_decay=0.0 \
        --max_train_steps=2 --max_train_samples=4000000 --dataloader_num_workers=8 --checkpointing_steps=200 \
        --checkpoints_total_limit=10 --enable_xformers_memory_efficient_attention --seed=453645634 \
        --gradient_accumulation_steps=1 --resume_from_checkpoint=latest --report_to=none --validation_steps=200";
    let flags = guide.split_whitespace().collect::<Vec<_>>();
    fewstep(line(&out, &flags)).ok();
    assert_eq!(losses(&out).len(), 2);
}

#[test]
fn another_run_in_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    fewstep(line(&out, &["--max_train_steps=1"])).ok();
    let text = fewstep(line(&out, &["--max_train_steps=2", "--huber_c=0.5"])).failed(2);
    assert!(
        text.contains("other settings") && text.contains("huber_c"),
        "{text}"
    );
    let text = fewstep(line(
        &out,
        &["--max_train_steps=2", "--resume_from_checkpoint=checkpoint-7"],
    ))
    .failed(2);
    assert!(
        text.contains("checkpoint-7") && text.contains("checkpoint-1"),
        "{text}"
    );
}

/// Starts a run without end, and waits for its first steps.
pub(crate) fn start_long(out: &Path) -> Child {
    let child = command(line(out, &["--max_train_steps=1000000"]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !out.join("metrics.jsonl").exists() || losses(out).is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no step in two minutes"
        );
        sleep(Duration::from_millis(50));
    }
    child
}

#[test]
fn signals_end_the_step_write_a_checkpoint_and_say_so() {
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("run");
        let child = start_long(&out);
        let kill = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let text = Ran::from(child.wait_with_output().unwrap()).failed(status);
        assert!(text.contains("finishing this step"), "{text}");
        assert!(text.contains("the same command goes on from"), "{text}");
        let done = losses(&out).len() as u64;
        assert!(
            out.join(format!("checkpoint-{done}/state.json")).is_file(),
            "after step {done}: {text}"
        );

        let end = format!("--max_train_steps={}", done + 1);
        let ran = fewstep(line(&out, &[&end, "--resume_from_checkpoint=latest"])).ok();
        assert!(
            ran.stderr.contains(&format!("going on after step {done}")),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn data_that_is_all_bad_ends_with_counts_by_cause() {
    let folder = TempDir::new().unwrap();
    let shards = ["empty.tar", "zero_bytes.tar", "no_tar.tar"]
        .map(|name| word(fixture(&format!("data/{name}"))))
        .join("::");
    let flags = [
        &format!("--train_shards_path_or_url={shards}"),
        "--max_train_steps=2",
    ];
    let text = fewstep(line(&folder.path().join("run"), &flags)).failed(1);
    assert!(text.contains("not one sample could be used"), "{text}");
    for cause in ["shard without samples", "shard is broken"] {
        assert!(text.contains(cause), "{cause}: {text}");
    }
}

#[test]
fn what_was_left_out_is_counted_at_the_end() {
    let folder = TempDir::new().unwrap();
    let flags = [
        &format!("--train_shards_path_or_url={}", word(fixture("data/defects.tar"))),
        "--max_train_steps=12",
        "--dataloader_num_workers=2",
    ];
    let ran = fewstep(line(&folder.path().join("run"), &flags)).ok();
    assert!(
        ran.stderr.contains("left out of the training data"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("bad picture") && ran.stderr.contains("no caption"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_teacher_that_is_no_model_is_named() {
    let folder = TempDir::new().unwrap();
    let out = word(folder.path().join("run"));
    let shards = word(fixture("data/good.tar"));
    let train = |teacher: &str| {
        let flags = [
            "--max_train_steps=1",
            "--output_dir",
            &out,
            "--train_shards_path_or_url",
            &shards,
        ];
        fewstep([&["train", "--pretrained_teacher_model", teacher][..], &flags].concat())
    };
    let text = train("./nowhere").failed(1);
    assert!(text.contains("nowhere does not exist"), "{text}");
    let text = train(&word(fixture("data"))).failed(1);
    assert!(
        text.contains("data/") && text.contains("does not exist"),
        "{text}"
    );
}

#[test]
fn a_run_that_does_not_start_leaves_no_folder() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("runs/first");
    let text = fewstep(line(&out, &["--max_train_steps=1", "--lora_target_modules=to_x"])).failed(1);
    assert!(text.contains("the adapters' target \"to_x\""), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_prints_a_configuration_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let flags = [
        "--max_train_steps=7",
        "--dry-run",
        "--mixed-precision",
        "bf16",
        "--zero=1",
    ];
    let ran = fewstep(line(&out, &flags)).ok();
    assert!(!out.exists());
    assert!(
        ran.stderr.contains("--zero 1 does nothing here"),
        "{}",
        ran.stderr
    );
    let mut of_two = command(line(&out, &flags));
    let ranks = [
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
    ];
    let of_two = Ran::from(of_two.envs(ranks).output().unwrap()).ok();
    for said in [
        "AdamW's two moments, a share",
        "gradients, f32, in buckets",
        "of the 2 ranks on this machine",
        "of 4 samples",
    ] {
        assert!(of_two.stdout.contains(said), "{}", of_two.stdout);
    }
    assert_eq!(of_two.stderr, "");
    assert!(
        ran.stdout.contains("# 7 optimiser steps of 2 samples"),
        "{}",
        ran.stdout
    );
    let file = folder.path().join("run.toml");
    fs::write(&file, &ran.stdout).unwrap();
    let again = fewstep(["train", "--config", &word(&file), "--dry_run"]).ok();
    assert_eq!(again.stdout, ran.stdout);
    let other = fewstep(["train", "--config", &word(&file), "--dry_run", "--seed", "9"]).ok();
    assert!(other.stdout.contains("seed = 9") && ran.stdout.contains("seed = 3"));
}

#[test]
fn a_profile_says_where_time_and_memory_went_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (plain, profiled) = (folder.path().join("plain"), folder.path().join("profiled"));
    fewstep(line(&plain, &["--max_train_steps=4", "--ema_decay=0.9"])).ok();
    let ran = fewstep(line(
        &profiled,
        &["--max_train_steps=4", "--ema_decay=0.9", "--profile=2"],
    ))
    .ok();
    assert_eq!(losses(&plain), losses(&profiled));
    let table = fs::read_to_string(profiled.join("profile/table.txt")).unwrap();
    assert!(table.starts_with("a step, the mean of 2: "), "{table}");
    assert!(ran.stderr.contains(table.trim_end()), "{}", ran.stderr);
    let phases = [
        "wait for data",
        "latents",
        "captions",
        "teacher",
        "target",
        "student",
        "backward",
        "update",
    ];
    let listed = table
        .lines()
        .filter_map(|line| phases.iter().find(|phase| line.starts_with(**phase)));
    assert_eq!(listed.copied().collect::<Vec<_>>(), phases, "{table}");
    let trace = fs::read_to_string(profiled.join("profile/trace.json")).unwrap();
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let steps = trace["traceEvents"].as_array().unwrap().iter();
    assert_eq!(steps.filter(|event| event["name"] == "step").count(), 2);
}
