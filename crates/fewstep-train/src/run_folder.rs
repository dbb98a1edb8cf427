//! The run's folder while a run starts: made at once, so that a place that cannot be written is known before
//! anything loads, and taken away again if the run does not come to start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::error::TrainError;

/// The folder of a run that starts. Unless it is kept, what was made for it goes with this value.
#[derive(Debug)]
pub(crate) struct RunFolder {
    /// The folders that were not there, the innermost first.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// Makes the folder and those above it, or puts one that is there in order after a crash.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let missing = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let folder = RunFolder {
            made: missing.map(Path::to_owned).collect(),
        };
        fs::create_dir_all(path).map_err(|error| TrainError::io("make folder", path, error))?;
        checkpoint::recover(path)?;
        Ok(folder)
    }

    /// The run has started: its folder stays.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for RunFolder {
    /// Only empty folders go: whatever lies in one is somebody's.
    fn drop(&mut self) {
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_unless_it_is_kept_or_used() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("runs/first");
        drop(RunFolder::open(&path).unwrap());
        assert!(!home.path().join("runs").exists());

        RunFolder::open(&path).unwrap().keep();
        drop(RunFolder::open(&path).unwrap());
        assert!(path.is_dir());

        let second = home.path().join("runs/second/part");
        let folder = RunFolder::open(&second).unwrap();
        fs::write(home.path().join("runs/second/note.txt"), "mine").unwrap();
        drop(folder);
        assert!(!second.exists() && home.path().join("runs/second/note.txt").exists());

        for place in ["runs/second/note.txt", "runs/second/note.txt/run"] {
            let error = RunFolder::open(&home.path().join(place)).unwrap_err().to_string();
            assert!(error.contains("note.txt"), "{error}");
        }
    }
}
