//! Which checkpoint a run goes on from: the latest that is whole, or the one that was asked for.

use std::path::{Path, PathBuf};

use super::{Checked, Checkpoint, State, folder_name, list};
use crate::error::TrainError;
use crate::sums::Damage;

/// A checkpoint to go on from.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Where it lies.
    pub checkpoint: Checkpoint,
    /// What it holds besides tensors.
    pub state: State,
    /// Later ones, the latest first, that are damaged.
    pub damaged: Vec<(Checkpoint, Damage)>,
}

/// The checkpoint that `--resume_from_checkpoint` names: `latest`, the name of one in the run's folder, or a
/// path. `latest` passes over damaged ones, and of a run that has no checkpoint is none: the run starts. Nothing on
/// the disk is changed.
///
/// # Errors
/// There is no such checkpoint, the one that was named is damaged, or all are.
pub fn find(wanted: &str, output_dir: &Path) -> Result<Option<Found>, TrainError> {
    let all = list(output_dir)?;
    if wanted == "latest" {
        return latest(output_dir, all);
    }
    let named = [output_dir.join(wanted), PathBuf::from(wanted)]
        .into_iter()
        .find(|path| path.is_dir());
    let Some(path) = named else {
        return Err(TrainError::NoCheckpoint {
            wanted: wanted.to_owned(),
            folder: output_dir.to_owned(),
            found: all.iter().map(|(step, _)| folder_name(*step)).collect(),
        });
    };
    let checkpoint = Checkpoint { path };
    match checkpoint.check()? {
        Checked::Whole(state) => Ok(Some(Found {
            checkpoint,
            state: *state,
            damaged: Vec::new(),
        })),
        Checked::Damaged(damage) => {
            let problem = format!(
                "{}; it is damaged, or no checkpoint: name another one, or give \
                 --resume_from_checkpoint latest for the last that is whole",
                damage.problem
            );
            Err(TrainError::bad_checkpoint(&damage.path, problem))
        }
    }
}

fn latest(output_dir: &Path, all: Vec<(u64, Checkpoint)>) -> Result<Option<Found>, TrainError> {
    let mut damaged = Vec::new();
    for (_, checkpoint) in all.into_iter().rev() {
        match checkpoint.check()? {
            Checked::Whole(state) => {
                return Ok(Some(Found {
                    checkpoint,
                    state: *state,
                    damaged,
                }));
            }
            Checked::Damaged(damage) => damaged.push((checkpoint, damage)),
        }
    }
    match damaged.is_empty() {
        true => Ok(None),
        false => Err(TrainError::AllDamaged {
            folder: output_dir.to_owned(),
            damaged: damaged
                .into_iter()
                .map(|(_, damage)| damage.to_string())
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{STATE, Stored, VERSION};
    use crate::sealed;
    use crate::sums::Sums;
    use fewstep_models::weights::Written;

    const DATA: &str = "optimizer.safetensors";

    /// A folder with checkpoints of one file each.
    fn run_folder(steps: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for &step in steps {
            let path = folder.path().join(folder_name(step));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(DATA), "numbers").unwrap();
            let mut files = Sums::default();
            files.add(DATA, Written::of_bytes(b"numbers"));
            let state = State::after(step);
            sealed::write(&path.join(STATE), VERSION, &Stored { state, files }).unwrap();
        }
        folder
    }

    fn find_in(folder: &tempfile::TempDir, wanted: &str) -> Result<Option<Found>, TrainError> {
        find(wanted, folder.path())
    }

    #[test]
    fn the_latest_or_the_one_that_is_named() {
        let folder = run_folder(&[9, 100]);
        let latest = find_in(&folder, "latest").unwrap().unwrap();
        assert_eq!((latest.state.step, latest.damaged.len()), (100, 0));
        let named = find_in(&folder, "checkpoint-9").unwrap().unwrap();
        assert_eq!(named.state.step, 9);
        let elsewhere = folder.path().join("checkpoint-9");
        let by_path = find(elsewhere.to_str().unwrap(), Path::new("/nowhere")).unwrap();
        assert_eq!(by_path.unwrap().checkpoint.path, elsewhere);
        let error = find_in(&folder, "checkpoint-300").unwrap_err().to_string();
        assert!(
            error.ends_with("there are checkpoint-9, checkpoint-100"),
            "{error}"
        );
        assert_eq!(find("latest", Path::new("/nowhere")).unwrap(), None);
    }

    #[test]
    fn a_damaged_one_is_named_and_the_one_before_is_taken() {
        let folder = run_folder(&[1, 2, 3, 4]);
        let place = |step: u64, file: &str| folder.path().join(folder_name(step)).join(file);
        std::fs::write(place(4, DATA), "nUmbers").unwrap();
        std::fs::write(place(3, DATA), "num").unwrap();
        std::fs::remove_file(place(2, STATE)).unwrap();
        let found = find_in(&folder, "latest").unwrap().unwrap();
        assert_eq!(found.state.step, 1);
        let said: Vec<String> = found
            .damaged
            .iter()
            .map(|(_, damage)| damage.to_string())
            .collect();
        assert!(
            said[0].contains("checkpoint-4/optimizer.safetensors does not hold"),
            "{said:?}"
        );
        assert!(
            said[1].contains("checkpoint-3/optimizer.safetensors has 3 bytes, of 7"),
            "{said:?}"
        );
        assert!(said[2].contains("checkpoint-2/state.json is missing"), "{said:?}");
        let error = find_in(&folder, "checkpoint-4").unwrap_err().to_string();
        assert!(
            error.contains("checkpoint-4/optimizer.safetensors does not hold"),
            "{error}"
        );

        std::fs::remove_file(place(1, DATA)).unwrap();
        let error = find_in(&folder, "latest").unwrap_err().to_string();
        for step in 1..=4 {
            assert!(error.contains(&folder_name(step)), "{error}");
        }
    }

    #[test]
    fn another_version_is_no_damage() {
        let folder = run_folder(&[1, 2]);
        let path = folder.path().join("checkpoint-2").join(STATE);
        std::fs::write(path, r#"{"version": 2, "step": 2, "skipped_updates": 0}"#).unwrap();
        let error = find_in(&folder, "latest").unwrap_err().to_string();
        assert!(
            error.contains("checkpoint-2 was written by another version"),
            "{error}"
        );
    }
}
