//! The run's folder while a run starts: made at once, so that a place that cannot be written is known before
//! anything loads, kept from other runs, and taken away again if the run does not come to start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::TrainError;
use crate::lock::RunLock;
use crate::observer::{Event, Observer};
use crate::{checkpoint, saved, whole_folder};

/// The folder of a run that starts. Unless it is kept, what was made for it goes with this value.
#[derive(Debug)]
pub(crate) struct RunFolder {
    /// The folders that were not there, the innermost first.
    made: Vec<PathBuf>,
    lock: Option<RunLock>,
}

impl RunFolder {
    /// Makes the folder and those above it, or takes one that is there and puts it in order after a crash.
    ///
    /// # Errors
    /// Another run is at work in it, or what the operating system refuses.
    pub(crate) fn open(path: &Path, observer: &mut dyn Observer) -> Result<Self, TrainError> {
        let missing = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let mut folder = RunFolder {
            made: missing.map(Path::to_owned).collect(),
            lock: None,
        };
        whole_folder::make(path)?;
        let (lock, no_lock) = RunLock::take(path)?;
        folder.lock = Some(lock);
        if let Some(reason) = no_lock {
            observer.event(&Event::NoLock {
                folder: path.to_owned(),
                reason: reason.to_string(),
            });
        }
        whole_folder::recover(path, |name| {
            checkpoint::step_of(name).is_some() || saved::is_result(name)
        })?;
        Ok(folder)
    }

    /// The run has started: its folder stays, and its lock is the run's.
    pub(crate) fn keep(mut self) -> Option<RunLock> {
        self.made.clear();
        self.lock.take()
    }
}

impl Drop for RunFolder {
    /// Only empty folders go: whatever lies in one is somebody's.
    fn drop(&mut self) {
        if let (Some(innermost), Some(lock)) = (self.made.first(), &self.lock) {
            lock.remove(innermost);
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<RunFolder, TrainError> {
        RunFolder::open(path, &mut ())
    }

    #[test]
    fn what_was_made_goes_unless_it_is_kept_or_used() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("runs/first");
        drop(open(&path).unwrap());
        assert!(!home.path().join("runs").exists());

        open(&path).unwrap().keep();
        drop(open(&path).unwrap());
        assert!(path.is_dir());

        let second = home.path().join("runs/second/part");
        let folder = open(&second).unwrap();
        fs::write(home.path().join("runs/second/note.txt"), "mine").unwrap();
        drop(folder);
        assert!(!second.exists() && home.path().join("runs/second/note.txt").exists());

        for place in ["runs/second/note.txt", "runs/second/note.txt/run"] {
            let error = open(&home.path().join(place)).unwrap_err().to_string();
            assert!(error.contains("note.txt"), "{error}");
        }
    }
}
