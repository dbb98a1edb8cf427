//! What a student is in numbers, and what its distillation took: read from the files of its run, so that a run
//! that an earlier call finished, or that was interrupted, tells the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fewstep_models::weights::TensorFile;
use fewstep_train::StepMetrics;
use serde_json::Value;

use super::student::{Distilled, Student};

/// The size of a student and the cost of its distillation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cost {
    pub(super) student: Student,
    /// The file or the folder that it is painted with.
    pub(super) weights: PathBuf,
    /// The numbers in there: all of them were trained.
    pub(super) trained: u64,
    /// The bytes of the files with them.
    pub(super) bytes: u64,
    /// Optimiser steps.
    pub(super) steps: u64,
    /// Seconds of these steps, in every process that did some of them. Loading is not counted.
    pub(super) seconds: f64,
    /// The most memory that was in use at the end of a step, in units of 10^9 bytes, where the system says.
    pub(super) memory_gb: Option<f64>,
}

impl Cost {
    /// Reads them from the student's run.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub(super) fn read(distilled: &Distilled) -> Result<Self> {
        let weights = distilled.weights();
        let (trained, bytes) = size(&weights)?;
        let mut cost = Cost {
            student: distilled.student,
            weights,
            trained,
            bytes,
            steps: 0,
            seconds: 0.0,
            memory_gb: None,
        };
        let mut samples = 0;
        for step in steps(&distilled.metrics())? {
            cost.steps = step.step;
            cost.seconds += step.samples.saturating_sub(samples) as f64 / step.samples_per_s;
            samples = step.samples;
            cost.memory_gb = cost.memory_gb.into_iter().chain(step.memory_gb).reduce(f64::max);
        }
        Ok(cost)
    }
}

/// The numbers and the bytes of a safetensors file, or of all in a folder.
fn size(weights: &Path) -> Result<(u64, u64)> {
    let files = if weights.is_dir() {
        let entries = std::fs::read_dir(weights).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries =
            entries.with_context(|| format!("the folder {} could not be read", weights.display()))?;
        let paths = entries.iter().map(std::fs::DirEntry::path);
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
            .collect()
    } else {
        vec![weights.to_owned()]
    };
    ensure!(
        !files.is_empty(),
        "{} holds no safetensors file",
        weights.display()
    );
    let mut size = (0, 0);
    for path in files {
        let file = TensorFile::open(&path)?;
        let numbers = |name| file.shape(name).iter().product::<i64>();
        size.0 += file.names().map(numbers).sum::<i64>().unsigned_abs();
        size.1 += path
            .metadata()
            .with_context(|| format!("{} could not be read", path.display()))?
            .len();
    }
    Ok(size)
}

/// The lines of a run's metrics that are of steps.
fn steps(metrics: &Path) -> Result<Vec<StepMetrics>> {
    let problem = || {
        format!(
            "{} could not be read: it has a line for each step of the run",
            metrics.display()
        )
    };
    let text = std::fs::read_to_string(metrics).with_context(problem)?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let mut steps = Vec::new();
    for line in lines {
        let line = line.with_context(problem)?;
        if line.get("event").is_none() {
            steps.push(serde_json::from_value(line).with_context(problem)?);
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fewstep_models::weights::write_tensors;
    use tch::{Device, Kind, Tensor};

    use super::*;

    const METRICS: &str = r#"{"step":1,"samples":4,"time":1.0,"loss":0.5,"lr":0.1,"grad_norm":1.0,"samples_per_s":2.0,"data_wait_s":0.0,"memory_gb":0.25,"dropped":{},"skipped":{}}
{"event":"checkpoint","step":1,"time":2.0,"path":"checkpoint-1"}
{"step":2,"samples":8,"time":9.0,"loss":0.5,"lr":0.1,"grad_norm":1.0,"samples_per_s":0.5,"data_wait_s":0.0,"memory_gb":0.75,"dropped":{},"skipped":{}}
{"step":3,"samples":12,"time":9.5,"loss":0.5,"lr":0.1,"grad_norm":1.0,"samples_per_s":8.0,"data_wait_s":0.0,"memory_gb":null,"dropped":{},"skipped":{}}
"#;

    fn write(path: &Path, rows: i64) {
        let tensor = |n| Tensor::zeros([n, 5], (Kind::Float, Device::Cpu));
        let (a, b) = (tensor(rows), tensor(1));
        write_tensors(path, [("a", &a), ("b", &b)], &BTreeMap::new()).unwrap();
    }

    #[test]
    fn a_cost_is_what_the_files_say() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().to_owned();
        std::fs::write(run.join("metrics.jsonl"), METRICS).unwrap();
        let lora = Distilled {
            student: Student::Lora,
            run: run.clone(),
        };
        write(&lora.weights(), 3);
        let cost = Cost::read(&lora).unwrap();
        assert_eq!(cost.trained, 3 * 5 + 5);
        assert_eq!(cost.bytes, lora.weights().metadata().unwrap().len());
        assert_eq!((cost.steps, cost.memory_gb), (3, Some(0.75)));
        assert!(
            (cost.seconds - (2.0 + 8.0 + 0.5)).abs() < 1e-9,
            "{}",
            cost.seconds
        );

        let whole = Distilled {
            student: Student::Whole,
            run,
        };
        std::fs::create_dir(whole.weights()).unwrap();
        let error = Cost::read(&whole).unwrap_err().to_string();
        assert!(error.contains("holds no safetensors file"), "{error}");
        let shard = |number: u8| whole.weights().join(format!("{number}.safetensors"));
        for number in [1, 2] {
            write(&shard(number), 7);
        }
        std::fs::write(whole.weights().join("config.json"), "{}").unwrap();
        let cost = Cost::read(&whole).unwrap();
        assert_eq!(cost.trained, 2 * (7 * 5 + 5));
        assert_eq!(cost.bytes, 2 * shard(1).metadata().unwrap().len());
    }
}
