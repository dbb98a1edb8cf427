//! Checkpoints: folders `checkpoint-N` from which a run goes on as if it had never stopped.
//!
//! A folder of that name is complete: it is built beside its place, synced, then renamed. It holds what is trained,
//! under the names and in the form of a finished run, optimizer.safetensors, and state.json with the sums of all of
//! these files. Which checkpoint a run goes on from, [`find()`] knows.

mod find;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewstep_data::{Cursor, Part};
use serde::{Deserialize, Serialize};

pub use find::{Found, find};

use crate::error::TrainError;
use crate::precision::LossScaler;
use crate::sealed::{self, Unusable};
use crate::skipped::Skipped;
use crate::snapshot::{OPTIMIZER, Snapshot};
use crate::sums::{Damage, Sums};
use crate::whole_folder;

/// The layout of a checkpoint folder that this version writes and reads.
const VERSION: u32 = 3;
const STATE: &str = "state.json";

/// Everything of a run that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: u64,
    /// Updates that were skipped, by cause.
    pub skipped: Skipped,
    /// The place in the data; rank 0's, where there are several.
    pub cursor: Cursor,
    /// Those of the other ranks, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_cursors: Vec<Cursor>,
    /// The loss scale, in an fp16 run.
    pub scaler: Option<LossScaler>,
    /// The options that make the run what it is, as words by name.
    pub config: BTreeMap<String, String>,
}

/// state.json: the state, and what each of the other files holds.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    state: State,
    files: Sums,
}

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
}

/// What reading a checkpoint came to.
#[derive(Debug, PartialEq)]
pub enum Checked {
    /// Every file holds what was written.
    Whole(Box<State>),
    /// A file does not.
    Damaged(Damage),
}

impl State {
    /// The place from which a rank goes on: its own, or, where there were as many ranks as there are not now, the next
    /// epoch after all of them.
    pub(crate) fn cursor_of(&self, part: Part) -> Cursor {
        let mut all = vec![self.cursor.clone()];
        all.extend(self.other_cursors.iter().cloned());
        let rank = usize::try_from(part.rank).unwrap_or(usize::MAX);
        if all.len() as u64 == part.ranks && rank < all.len() {
            return all.swap_remove(rank);
        }
        let together = Cursor::of_all(&all).unwrap_or_else(|| self.cursor.clone());
        match part.rank {
            0 => together,
            // Rank 0 counts what was dropped so far.
            _ => together.without_drops(),
        }
    }
}

impl Checkpoint {
    /// Writes a checkpoint into the run's folder. It is there whole or not at all.
    ///
    /// # Errors
    /// What the operating system refuses: a full disk, most often. Earlier checkpoints are untouched.
    pub(crate) fn write(output_dir: &Path, state: &State, snapshot: &Snapshot) -> Result<Self, TrainError> {
        let path = output_dir.join(folder_name(state.step));
        whole_folder::put(&path, |folder| {
            let stored = Stored {
                files: snapshot.save(folder)?,
                state: state.clone(),
            };
            sealed::write(&folder.join(STATE), VERSION, &stored)
        })?;
        Ok(Checkpoint { path })
    }

    /// Reads what is not a tensor, and checks every file against what was written.
    ///
    /// # Errors
    /// It was written by another version, or may not be read.
    pub fn check(&self) -> Result<Checked, TrainError> {
        let path = self.path.join(STATE);
        let stored: Stored = match sealed::read(&path, VERSION) {
            Ok(stored) => stored,
            Err(Unusable::Damaged(problem)) => return Ok(Checked::Damaged(Damage { path, problem })),
            Err(Unusable::Forbidden(error)) => return Err(TrainError::io("read", &path, error)),
            Err(Unusable::OtherVersion) => {
                let problem = "was written by another version of fewstep; go on with that version, or \
                               choose another --output_dir to start anew";
                return Err(TrainError::bad_checkpoint(&self.path, problem));
            }
        };
        Ok(match stored.files.damage(&self.path)? {
            Some(damage) => Checked::Damaged(damage),
            None => Checked::Whole(Box::new(stored.state)),
        })
    }

    /// The optimiser's state.
    pub fn optimizer(&self) -> PathBuf {
        self.path.join(OPTIMIZER)
    }
}

/// The checkpoints of a run's folder with their steps, oldest first; none where there is no such folder. Unfinished
/// ones are none; whether one is whole, only reading it shows.
///
/// # Errors
/// The folder cannot be listed.
pub fn list(output_dir: &Path) -> Result<Vec<(u64, Checkpoint)>, TrainError> {
    let io = |error| TrainError::io("list", output_dir, error);
    let entries = match std::fs::read_dir(output_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(step) = name.and_then(step_of).filter(|_| path.is_dir()) {
            found.push((step, Checkpoint { path }));
        }
    }
    found.sort_by_key(|(step, _)| *step);
    Ok(found)
}

/// Deletes the oldest checkpoints until `limit` are left. Call it when that of step `newest` is complete: it stays,
/// and those of later steps, which a run that went back has left behind, go first.
///
/// # Errors
/// A folder cannot be removed.
pub(crate) fn prune(output_dir: &Path, limit: u64, newest: u64) -> Result<(), TrainError> {
    let mut all = list(output_dir)?;
    all.sort_by_key(|(step, _)| (*step <= newest, *step));
    let surplus = all
        .len()
        .saturating_sub(usize::try_from(limit.max(1)).unwrap_or(usize::MAX));
    all[..surplus]
        .iter()
        .try_for_each(|(_, checkpoint)| whole_folder::discard(&checkpoint.path))
}

fn folder_name(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// The step of a folder that is named as a checkpoint.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let step: u64 = name.strip_prefix("checkpoint-")?.parse().ok()?;
    // `checkpoint-+7` and `checkpoint-007` are not ours.
    (folder_name(step) == name).then_some(step)
}

#[cfg(test)]
impl State {
    /// The state of some run after `step` steps.
    pub(crate) fn after(step: u64) -> Self {
        let shard = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/data/good.tar");
        let data = fewstep_data::DataConfig {
            origin: fewstep_data::Origin::Shards(vec![shard.to_owned()]),
            ..Default::default()
        };
        let loader = fewstep_data::Loader::new(data).unwrap();
        State {
            step,
            skipped: Skipped::default(),
            cursor: loader.cursor().clone(),
            other_cursors: Vec::new(),
            scaler: None,
            config: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        folder
    }

    fn steps(folder: &Path) -> Vec<u64> {
        list(folder).unwrap().iter().map(|(step, _)| *step).collect()
    }

    #[test]
    fn only_finished_folders_with_our_names_are_checkpoints() {
        let folder = run_folder(&[
            "checkpoint-100",
            "checkpoint-9",
            "checkpoint-20.tmp",
            "checkpoint-21.damaged",
            "checkpoint-old",
            "checkpoint-007",
            "samples",
        ]);
        std::fs::write(folder.path().join("checkpoint-300"), "").unwrap();
        assert_eq!(steps(folder.path()), [9, 100]);
        assert_eq!(steps(Path::new("/nowhere")), [0; 0]);
    }

    #[test]
    fn pruning_keeps_the_newest() {
        let folder = run_folder(&["checkpoint-1", "checkpoint-2", "checkpoint-10", "samples"]);
        prune(folder.path(), 2, 10).unwrap();
        assert_eq!(steps(folder.path()), [2, 10]);
        assert!(folder.path().join("samples").is_dir());
    }

    #[test]
    fn pruning_after_going_back_keeps_what_was_just_written() {
        let folder = run_folder(&["checkpoint-2", "checkpoint-3", "checkpoint-8", "checkpoint-9"]);
        prune(folder.path(), 2, 3).unwrap();
        assert_eq!(steps(folder.path()), [2, 3]);
    }
}
