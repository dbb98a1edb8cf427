//! Checkpoints: folders `checkpoint-N` from which a run goes on as if it had never stopped.
//!
//! A folder of that name is complete: it is built as `checkpoint-N.tmp`, synced, then renamed. It holds what
//! is trained, under the names and in the form of a finished run, optimizer.safetensors and state.json.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use fewstep_data::Cursor;
use fewstep_models::weights::write_json_atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::precision::LossScaler;
use crate::saved;
use crate::student::Unets;
use crate::update::Updater;

/// The layout of a checkpoint folder that this version writes and reads.
const VERSION: u32 = 2;
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Everything of a run that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The layout of the folder.
    version: u32,
    /// Optimiser steps done.
    pub step: u64,
    /// Updates skipped because fp16 gradients overflowed.
    pub skipped_updates: u64,
    /// The place in the data.
    pub cursor: Cursor,
    /// The loss scale, in an fp16 run.
    pub scaler: Option<LossScaler>,
    /// The options that make the run what it is, as words by name.
    pub config: BTreeMap<String, String>,
}

impl State {
    /// A state in this version's layout.
    pub fn new(
        step: u64,
        skipped_updates: u64,
        cursor: Cursor,
        scaler: Option<LossScaler>,
        config: BTreeMap<String, String>,
    ) -> Self {
        State {
            version: VERSION,
            step,
            skipped_updates,
            cursor,
            scaler,
            config,
        }
    }
}

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
}

impl Checkpoint {
    /// Writes a checkpoint into the run's folder. It is there whole or not at all.
    ///
    /// # Errors
    /// What the operating system refuses: a full disk, most often. Earlier checkpoints are untouched.
    pub fn write(
        output_dir: &Path,
        state: &State,
        unets: &Unets,
        updater: &Updater,
    ) -> Result<Self, TrainError> {
        let path = output_dir.join(folder_name(state.step));
        let unfinished = beside(&path, "tmp");
        remove_folder(&unfinished)?;
        fs::create_dir_all(&unfinished).map_err(|error| TrainError::io("make folder", &unfinished, error))?;
        let written =
            fill(&unfinished, state, unets, updater).and_then(|()| put_in_place(&unfinished, &path));
        if let Err(error) = written {
            // The first error is the one to tell; what stays is only an unfinished folder.
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error);
        }
        Ok(Checkpoint { path })
    }

    /// Reads what is not a tensor.
    ///
    /// # Errors
    /// state.json is missing, broken, or of another version.
    pub fn state(&self) -> Result<State, TrainError> {
        let path = self.path.join(STATE);
        let text = fs::read_to_string(&path).map_err(|error| TrainError::io("read", &path, error))?;
        let version = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|state| state.get("version").and_then(Value::as_u64));
        if version.is_some_and(|version| version != u64::from(VERSION)) {
            let problem = "was written by another version of fewstep; go on with that version";
            return Err(TrainError::bad_checkpoint(&self.path, problem));
        }
        serde_json::from_str(&text)
            .map_err(|error| TrainError::bad_checkpoint(&path, format!("is not the state of a run: {error}")))
    }

    /// The optimiser's state.
    pub fn optimizer(&self) -> PathBuf {
        self.path.join(OPTIMIZER)
    }
}

/// The checkpoints of a run's folder with their steps, oldest first. Unfinished and foreign folders are none.
///
/// # Errors
/// The folder cannot be listed. One that is not there has no checkpoints.
pub fn list(output_dir: &Path) -> Result<Vec<(u64, Checkpoint)>, TrainError> {
    let io = |error| TrainError::io("list", output_dir, error);
    let entries = match fs::read_dir(output_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if let Some(step) = step_of(&path).filter(|_| path.join(STATE).is_file()) {
            found.push((step, Checkpoint { path }));
        }
    }
    found.sort_by_key(|(step, _)| *step);
    Ok(found)
}

/// The checkpoint that `--resume_from_checkpoint` names: `latest`, the name of one in the run's folder, or a
/// path. `latest` of a run that has none is none: the run starts.
///
/// # Errors
/// There is no such checkpoint.
pub fn find(wanted: &str, output_dir: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let mut all = list(output_dir)?;
    if wanted == "latest" {
        return Ok(all.pop().map(|(_, checkpoint)| checkpoint));
    }
    for path in [output_dir.join(wanted), PathBuf::from(wanted)] {
        if path.join(STATE).is_file() {
            return Ok(Some(Checkpoint { path }));
        }
    }
    Err(TrainError::NoCheckpoint {
        wanted: wanted.to_owned(),
        folder: output_dir.to_owned(),
        found: all.iter().map(|(step, _)| folder_name(*step)).collect(),
    })
}

/// Deletes the oldest checkpoints until `limit` are left. Call it when a new one is complete.
///
/// # Errors
/// A folder cannot be removed.
pub fn prune(output_dir: &Path, limit: u64) -> Result<(), TrainError> {
    let all = list(output_dir)?;
    let surplus = all
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    for (_, checkpoint) in &all[..surplus] {
        // Once renamed it is no checkpoint: a crash half-way leaves nothing that looks like one.
        let doomed = beside(&checkpoint.path, "tmp");
        remove_folder(&doomed)?;
        fs::rename(&checkpoint.path, &doomed)
            .map_err(|error| TrainError::io("rename", &checkpoint.path, error))?;
        remove_folder(&doomed)?;
    }
    Ok(())
}

/// Puts a run's folder in order after a crash: removes what was unfinished, and brings back a checkpoint that
/// was moved aside for a new one of its name that never came.
///
/// # Errors
/// A folder cannot be removed or renamed.
pub fn recover(output_dir: &Path) -> Result<(), TrainError> {
    let Ok(entries) = fs::read_dir(output_dir) else {
        return Ok(());
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let place = path.with_extension("");
        if step_of(&place).is_none() {
            continue;
        }
        match ending {
            Some("old") if !place.exists() => {
                fs::rename(&path, &place).map_err(|error| TrainError::io("rename", &path, error))?;
            }
            Some("tmp" | "old") => remove_folder(&path)?,
            _ => {}
        }
    }
    Ok(())
}

fn fill(folder: &Path, state: &State, unets: &Unets, updater: &Updater) -> Result<(), TrainError> {
    saved::save(folder, unets)?;
    updater.optimizer.save(&folder.join(OPTIMIZER))?;
    let state = serde_json::to_value(state).map_err(|error| {
        TrainError::bad_checkpoint(folder, format!("cannot hold the run's state: {error}"))
    })?;
    write_json_atomic(&folder.join(STATE), &state)?;
    sync(folder)
}

/// Renames a complete folder to its place. An earlier one of that name steps aside until it is there.
fn put_in_place(complete: &Path, place: &Path) -> Result<(), TrainError> {
    let rename =
        |from: &Path, to: &Path| fs::rename(from, to).map_err(|error| TrainError::io("rename", from, error));
    let aside = beside(place, "old");
    if place.exists() {
        remove_folder(&aside)?;
        rename(place, &aside)?;
    }
    rename(complete, place)?;
    sync(place.parent().unwrap_or(Path::new(".")))?;
    remove_folder(&aside)
}

fn folder_name(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// The step of a folder that is named as a checkpoint.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let step: u64 = name.strip_prefix("checkpoint-")?.parse().ok()?;
    // `checkpoint-+7` and `checkpoint-007` are not ours.
    (folder_name(step) == name).then_some(step)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    path.with_extension(ending)
}

fn remove_folder(path: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<(), TrainError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| TrainError::io("sync", folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(STATE), "{}").unwrap();
        }
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_complete_checkpoints_are_seen() {
        let folder = run_folder(&[
            "checkpoint-100",
            "checkpoint-9",
            "checkpoint-20.tmp",
            "checkpoint-old",
            "checkpoint-007",
            "samples",
        ]);
        fs::create_dir(folder.path().join("checkpoint-300")).unwrap();
        let steps: Vec<u64> = list(folder.path())
            .unwrap()
            .iter()
            .map(|(step, _)| *step)
            .collect();
        assert_eq!(steps, [9, 100]);
        let latest = find("latest", folder.path()).unwrap().unwrap();
        assert!(latest.path.ends_with("checkpoint-100"));
        let named = find("checkpoint-9", folder.path()).unwrap().unwrap();
        assert!(named.path.ends_with("checkpoint-9"));
        let elsewhere = folder.path().join("checkpoint-9");
        let by_path = find(elsewhere.to_str().unwrap(), Path::new("/nowhere")).unwrap();
        assert_eq!(by_path.unwrap().path, elsewhere);
        let error = find("checkpoint-300", folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("there are checkpoint-9, checkpoint-100"),
            "{error}"
        );
        assert_eq!(find("latest", Path::new("/nowhere")).unwrap(), None);
    }

    #[test]
    fn pruning_keeps_the_newest() {
        let folder = run_folder(&["checkpoint-1", "checkpoint-2", "checkpoint-10", "samples"]);
        prune(folder.path(), 2).unwrap();
        assert_eq!(names(folder.path()), ["checkpoint-10", "checkpoint-2", "samples"]);
    }

    #[test]
    fn a_crash_leaves_nothing_behind_and_loses_nothing() {
        let folder = run_folder(&[
            "checkpoint-1",
            "checkpoint-1.old",
            "checkpoint-2.old",
            "checkpoint-3.tmp",
        ]);
        recover(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["checkpoint-1", "checkpoint-2"]);
    }

    #[test]
    fn a_foreign_state_is_named() {
        let folder = run_folder(&["checkpoint-1", "checkpoint-2"]);
        fs::write(
            folder.path().join("checkpoint-2").join(STATE),
            r#"{"version": 9}"#,
        )
        .unwrap();
        let all = list(folder.path()).unwrap();
        let message = |i: usize| all[i].1.state().unwrap_err().to_string();
        assert!(message(0).contains("is not the state of a run"), "{}", message(0));
        assert!(message(1).contains("another version"), "{}", message(1));
    }
}
