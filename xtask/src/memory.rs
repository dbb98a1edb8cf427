//! What `fewstep train --dry_run` says of a run's memory, against what the run then takes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{built, root, say, target};

/// How far a plan may be off.
const TOLERANCE: f64 = 0.1;

/// What is trained: each with every amount of gradient checkpointing.
const RUNS: [(&str, &[&str]); 4] = [
    (
        "full, f32, 256 px, batch 2",
        &["--resolution=256", "--train_batch_size=2"],
    ),
    (
        "full, bf16, 256 px, batch 2",
        &[
            "--resolution=256",
            "--train_batch_size=2",
            "--mixed_precision=bf16",
        ],
    ),
    (
        "LoRA, bf16, 512 px, batch 2",
        &[
            "--resolution=512",
            "--train_batch_size=2",
            "--mixed_precision=bf16",
            "--method=lora",
        ],
    ),
    (
        "LoRA, f32, 256 px, batch 4",
        &["--resolution=256", "--train_batch_size=4", "--method=lora"],
    ),
];

/// Trains the model in a folder for two steps in several ways, and prints planned and taken memory of each.
pub(crate) fn check(model: &Path) -> Result<()> {
    let program = built()?;
    let log = target().join("check-memory.log");
    let out = target().join("check-memory");
    let mut off = Vec::new();
    say(&format!(
        "{:<30}{:>8}{:>14}{:>12}{:>8}{:>8}",
        "run", "pieces", "planned MB", "taken MB", "off", "time"
    ));
    for (name, flags) in RUNS {
        for pieces in ["false", "10", "full"] {
            let train = || {
                let mut train = Command::new(&program);
                train
                    .current_dir(root())
                    .args([
                        "train",
                        "--device=cpu",
                        "--max_train_steps=2",
                        "--checkpointing_steps=0",
                    ])
                    .args([
                        "--min_size=0",
                        "--train_shards_path_or_url=tests/fixtures/data/good.tar",
                    ])
                    .arg(format!("--gradient_checkpointing={pieces}"))
                    .arg("--pretrained_teacher_model")
                    .arg(model)
                    .arg("--output_dir")
                    .arg(&out)
                    .args(flags);
                train
            };
            let planned = planned(train().arg("--dry_run"))?;
            if out.exists() {
                fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
            }
            let begun = std::time::Instant::now();
            let taken = taken(train().stderr(fs::File::create(&log)?).spawn()?)
                .with_context(|| format!("what it said is in {}", log.display()))?;
            let share = planned / taken - 1.0;
            let seconds = begun.elapsed().as_secs_f64();
            say(&format!(
                "{name:<30}{pieces:>8}{:>14.0}{:>12.0}{:>7.1}%{seconds:>7.1}s",
                planned * 1e-6,
                taken * 1e-6,
                share * 100.0
            ));
            if share.abs() > TOLERANCE {
                off.push(format!("{name}, {pieces}"));
            }
        }
    }
    match off.is_empty() {
        true => Ok(()),
        false => bail!("off by more than 10 %: {}", off.join("; ")),
    }
}

/// The largest of the planned peaks, in bytes.
fn planned(dry_run: &mut Command) -> Result<f64> {
    let output = dry_run.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, peaks)) = text.split_once("# planned peak:") else {
        bail!(
            "the dry run failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    };
    let numbers = peaks.lines().filter_map(|line| {
        let number = line.strip_suffix(" MB")?.split_whitespace().last()?;
        number.parse::<f64>().ok()
    });
    numbers
        .reduce(f64::max)
        .map(|megabytes| megabytes * 1e6)
        .context("the dry run names no peak")
}

/// The most that the process had in memory until it ended, in bytes.
fn taken(mut child: Child) -> Result<f64> {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0;
    loop {
        if let Some(ended) = child.try_wait()? {
            return match ended.success() {
                true => Ok(most),
                false => bail!("the run failed ({ended})"),
            };
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        most = kilobytes.map_or(most, |kilobytes| kilobytes * 1024.0);
        thread::sleep(Duration::from_millis(50));
    }
}
