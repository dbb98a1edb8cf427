//! metrics.jsonl: one JSON object a line. Lines of optimiser steps have a `loss`; others have an `event`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fewstep_data::Drops;
use fewstep_models::weights::write_atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::TrainError;
use crate::skipped::Skipped;

/// The file's name in a run's folder.
pub(crate) const NAME: &str = "metrics.jsonl";

/// What one optimiser step was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Its number, from 1; skipped updates have none.
    pub step: u64,
    /// Samples seen since the start of the run.
    pub samples: u64,
    /// When it ended, in seconds since 1970.
    pub time: f64,
    /// The mean loss of its micro-batches, those of all ranks.
    pub loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// The gradient's norm before clipping.
    pub grad_norm: f64,
    /// Samples a second, by the time since the step before.
    pub samples_per_s: f64,
    /// Seconds for which the step waited for data, of rank 0 where there are several.
    pub data_wait_s: f64,
    /// Memory in use, in units of 10^9 bytes, where the system says; of rank 0 where there are several.
    pub memory_gb: Option<f64>,
    /// Samples and shards left out, and what was read again, since the start of the run, by cause.
    pub dropped: Map<String, Value>,
    /// Updates skipped since the start of the run, by cause.
    pub skipped: Map<String, Value>,
}

/// Counts by cause, as `dropped` has them: only those that are not zero.
pub(crate) fn skipped_by_cause(skipped: &Skipped) -> Map<String, Value> {
    [("overflow", skipped.overflow), ("not_finite", skipped.not_finite)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(cause, count)| (cause.to_owned(), json!(count)))
        .collect()
}

/// Counts by cause, under the names that the causes have in files.
pub(crate) fn dropped_by_cause(drops: &Drops) -> Map<String, Value> {
    drops
        .iter()
        .filter_map(|(cause, tally)| match serde_json::to_value(cause) {
            Ok(Value::String(name)) => Some((name, json!(tally.count))),
            _ => None,
        })
        .collect()
}

/// Seconds since 1970, with fractions.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The open file.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    /// None of a rank that writes none.
    file: Option<File>,
    path: PathBuf,
    /// Bytes of whole lines in it.
    len: u64,
    /// Lines that could not be written yet.
    unwritten: Vec<u8>,
}

impl MetricsFile {
    /// Opens the file to go on after `step`. Lines of later steps, which a run that was cut off had written
    /// after its last checkpoint, are taken out, so that every step has one line; so is half a line.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        if path.exists() {
            keep_up_to(path, step)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| TrainError::io("open", path, error))?;
        let len = file
            .metadata()
            .map_err(|error| TrainError::io("read", path, error))?
            .len();
        Ok(MetricsFile {
            file: Some(file),
            path: path.to_owned(),
            len,
            unwritten: Vec::new(),
        })
    }

    /// No file: rank 0 writes for all.
    pub(crate) fn nowhere() -> Self {
        MetricsFile {
            file: None,
            path: PathBuf::new(),
            len: 0,
            unwritten: Vec::new(),
        }
    }

    /// The same open file once more, for whoever syncs it; none where the system refuses.
    pub(crate) fn handle(&self) -> Option<File> {
        self.file.as_ref()?.try_clone().ok()
    }

    /// Writes the line of a step.
    pub(crate) fn step(&mut self, metrics: &StepMetrics) -> Result<(), TrainError> {
        self.line(metrics)
    }

    /// Writes the line of something else that happened after `step`.
    pub(crate) fn event(&mut self, event: &str, step: u64, more: Value) -> Result<(), TrainError> {
        let mut line = Map::new();
        line.insert("event".to_owned(), json!(event));
        line.insert("step".to_owned(), json!(step));
        line.insert("time".to_owned(), json!(now()));
        if let Value::Object(more) = more {
            line.extend(more);
        }
        self.line(&line)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), TrainError> {
        let line = serde_json::to_vec(value);
        let mut line = line.map_err(|error| TrainError::io("write", &self.path, error.into()))?;
        line.push(b'\n');
        self.unwritten.extend(line);
        self.write_out()
    }

    /// Writes the lines that could not be written yet: all in one write, so that a reader never sees half a line while
    /// the run lives. After an error they are kept, and the file ends with a whole line.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn write_out(&mut self) -> Result<(), TrainError> {
        let Some(file) = &mut self.file else {
            self.unwritten.clear();
            return Ok(());
        };
        if let Err(error) = file.write_all(&self.unwritten) {
            // Making a file shorter takes no room. Where even that fails, half a line stays, as after a crash.
            let _ = file.set_len(self.len);
            return Err(TrainError::io("write", &self.path, error));
        }
        self.len += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }
}

fn keep_up_to(path: &Path, step: u64) -> Result<(), TrainError> {
    let io = |error| TrainError::io("read", path, error);
    let reader = BufReader::new(File::open(path).map_err(io)?);
    let mut kept = Vec::new();
    let mut changed = false;
    for line in reader.split(b'\n') {
        let line = line.map_err(io)?;
        let of_step = serde_json::from_slice::<Value>(&line)
            .ok()
            .and_then(|line| line.get("step").and_then(Value::as_u64));
        if of_step.is_some_and(|of_step| of_step <= step) {
            kept.extend_from_slice(&line);
            kept.push(b'\n');
        } else {
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    write_atomic(path, |file| {
        file.write_all(&kept)
            .map_err(|error| TrainError::io("write", path, error))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_cannot_be_written_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = MetricsFile::open(&path, 0).unwrap();
        file.event("step", 1, json!({})).unwrap();
        // A file that is only open to be read refuses what it is given.
        let writable = file.file.replace(File::open(&path).unwrap());
        file.event("step", 2, json!({})).unwrap_err();
        file.event("step", 3, json!({})).unwrap_err();
        file.file = writable;
        file.event("step", 4, json!({})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64();
        let steps: Vec<u64> = text.lines().filter_map(step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }

    #[test]
    fn going_on_takes_out_what_came_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0).unwrap();
        for step in 1..=4 {
            file.event("step", step, json!({"x": step})).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"step\": 2, \"lo")).unwrap();
        let mut file = MetricsFile::open(&path, 3).unwrap();
        file.event("resume", 3, json!({})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["step"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert_eq!(steps, [1, 2, 3, 3]);
    }
}
