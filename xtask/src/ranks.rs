//! What several ranks cost: a step of two ranks with a thread each against one process with two threads and their batches
//! in one, the share of it that ranks wait for one another, and the memory of each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{built, root, say, target};

/// The first step warms up, the second is recorded.
const NOT_TIMED: u64 = 2;

/// What is trained.
const METHODS: [(&str, &[&str]); 2] = [
    ("full", &["--method=full"]),
    ("LoRA, rank 64", &["--method=lora"]),
];

/// How: processes, threads and batch of each, and more flags.
const SIDES: [(&str, u32, u32, u32, &[&str]); 3] = [
    ("1 rank x 2 threads", 1, 2, 2, &[]),
    ("2 ranks x 1 thread", 2, 1, 1, &[]),
    ("2 ranks x 1 thread, --zero 1", 2, 1, 1, &["--zero=1"]),
];

/// What a run took.
struct Taken {
    /// Seconds of each timed step.
    steps: Vec<f64>,
    /// The share of the recorded step, in percent, of each phase that is about ranks.
    phases: Vec<(String, f64)>,
    /// The most resident memory of each process, in bytes, by its number.
    memory: Vec<f64>,
}

/// Trains the model in a folder for so many timed steps in each way.
pub(crate) fn bench(model: &Path, steps: u64) -> Result<()> {
    let program = built()?;
    for (method, of_method) in METHODS {
        for (side, ranks, threads, batch, of_side) in SIDES {
            let flags: Vec<String> = [
                format!("--train_batch_size={batch}"),
                format!("--max_train_steps={}", NOT_TIMED + steps),
            ]
            .into_iter()
            .chain(of_method.iter().chain(of_side).map(|flag| (*flag).to_owned()))
            .collect();
            let taken = taken(&program, model, ranks, threads, &flags)?;
            let (least, most) = (
                taken.steps.iter().copied().fold(f64::INFINITY, f64::min),
                taken.steps.iter().copied().fold(0.0, f64::max),
            );
            let phases: Vec<String> = taken
                .phases
                .iter()
                .map(|(name, share)| format!("{name} {share:.1} %"))
                .collect();
            let memory: Vec<String> = taken
                .memory
                .iter()
                .map(|bytes| format!("{:.2}", bytes * 1e-9))
                .collect();
            say(&format!(
                "{method:<14} {side:<29} {:>6.2} s a step ({least:.2} to {most:.2}); GB: {}; {}",
                median(&taken.steps),
                memory.join(" and "),
                phases.join(", ")
            ));
        }
    }
    Ok(())
}

fn taken(program: &Path, model: &Path, ranks: u32, threads: u32, flags: &[String]) -> Result<Taken> {
    let out = target().join("bench-ranks");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    let log = target().join("bench-ranks.log");
    let mut train = Command::new(program);
    if ranks > 1 {
        train.args(["launch", "-n", &ranks.to_string(), "--"]);
    }
    train
        .current_dir(root())
        .env("OMP_NUM_THREADS", threads.to_string())
        .args([
            "train",
            "--device=cpu",
            "--mixed_precision=bf16",
            "--resolution=256",
        ])
        .args(["--checkpointing_steps=0", "--min_size=0", "--profile=1"])
        .args(["--train_shards_path_or_url=tests/fixtures/data/good.tar"])
        .arg("--pretrained_teacher_model")
        .arg(model)
        .arg("--output_dir")
        .arg(&out)
        .args(flags)
        .stderr(File::create(&log)?);
    let memory = memory_of(train.spawn()?, ranks > 1)
        .with_context(|| format!("what it said is in {}", log.display()))?;
    Ok(Taken {
        steps: seconds(&out)?,
        phases: phases(&out)?,
        memory,
    })
}

/// The most that a process, or each of those that it started, had in memory until it ended.
fn memory_of(mut child: Child, of_children: bool) -> Result<Vec<f64>> {
    let own = child.id();
    let mut most: BTreeMap<u32, f64> = BTreeMap::new();
    loop {
        if let Some(ended) = child.try_wait()? {
            return match ended.success() {
                true => Ok(most.into_values().collect()),
                false => bail!("the run failed ({ended})"),
            };
        }
        let processes: Vec<u32> = match of_children {
            true => fs::read_to_string(format!("/proc/{own}/task/{own}/children"))
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect(),
            false => vec![own],
        };
        for pid in processes {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            if let Some(kilobytes) =
                line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok())
            {
                most.insert(pid, kilobytes * 1024.0);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Seconds of the timed steps, from metrics.jsonl.
fn seconds(out: &Path) -> Result<Vec<f64>> {
    let path: PathBuf = out.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut all = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let number = |name: &str| line.get(name).and_then(Value::as_f64);
        if line.get("loss").is_some()
            && let (Some(step), Some(rate)) = (number("step"), number("samples_per_s"))
            && step > NOT_TIMED as f64
        {
            // All sides have two samples a step.
            all.push(2.0 / rate);
        }
    }
    Ok(all)
}

/// The shares of the recorded step that are about ranks, from its table.
fn phases(out: &Path) -> Result<Vec<(String, f64)>> {
    let path = out.join("profile/table.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_at_checked(24)?;
            let name = name.trim();
            let share = numbers.split_whitespace().nth(1)?.parse().ok()?;
            (name.ends_with("ranks") || name == "update").then(|| (name.to_owned(), share))
        })
        .collect())
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
