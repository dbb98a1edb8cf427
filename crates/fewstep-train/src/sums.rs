//! What each file of a folder held when it was written, and whether it holds that still.
//!
//! It finds damage, by accident; it is no defence against somebody who changes files and sums alike.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use fewstep_models::weights::Written;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::sealed::hex;

/// Files by their names in a folder, with `/` between parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Sums(BTreeMap<String, Sum>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    xxh3: String,
}

/// What is wrong with a file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, as the rest of a sentence that begins with the path.
    pub problem: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.path.display(), self.problem)
    }
}

impl Sums {
    /// Takes note of a file.
    pub(crate) fn add(&mut self, name: impl Into<String>, written: Written) {
        let sum = Sum {
            bytes: written.bytes,
            xxh3: hex(written.xxh3),
        };
        self.0.insert(name.into(), sum);
    }

    /// Takes note of the files of the folder `below`.
    pub(crate) fn add_folder(&mut self, below: &str, files: BTreeMap<String, Written>) {
        for (name, written) in files {
            self.add(format!("{below}/{name}"), written);
        }
    }

    /// The names of the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The first thing that is wrong with these files in `folder`, if anything is. All of them are read.
    ///
    /// # Errors
    /// A file that this user may not read: that is no damage.
    pub(crate) fn damage(&self, folder: &Path) -> Result<Option<Damage>, TrainError> {
        for (name, sum) in &self.0 {
            let path = folder.join(name);
            if let Some(problem) = sum.problem(Path::new(name), &path)? {
                return Ok(Some(Damage { path, problem }));
            }
        }
        Ok(None)
    }
}

impl Sum {
    fn problem(&self, name: &Path, path: &Path) -> Result<Option<String>, TrainError> {
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(Some("is listed, and is no file of its folder".to_owned()));
        }
        // Its length first: it costs nothing to know.
        let length = std::fs::metadata(path).and_then(|metadata| match metadata.is_file() {
            true => Ok(metadata.len()),
            false => Err(ErrorKind::NotFound.into()),
        });
        let written = match length {
            Ok(bytes) if bytes != self.bytes => {
                return Ok(Some(format!(
                    "has {bytes} bytes, of {} that were written",
                    self.bytes
                )));
            }
            Ok(_) => Written::of_file(path),
            Err(error) => Err(error),
        };
        Ok(match written {
            Ok(written) if hex(written.xxh3) == self.xxh3 => None,
            Ok(_) => Some("does not hold what was written (its checksum differs)".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Some("is missing".to_owned()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(TrainError::io("read", path, error));
            }
            Err(error) => Some(format!("cannot be read: {error}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_short_or_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("unet")).unwrap();
        let path = folder.path().join("unet/file");
        let mut sums = Sums::default();
        sums.add_folder(
            "unet",
            BTreeMap::from([("file".to_owned(), Written::of_bytes(b"hello"))]),
        );
        let problem = || {
            sums.damage(folder.path())
                .unwrap()
                .map(|damage| damage.to_string())
        };
        assert!(problem().unwrap().ends_with("unet/file is missing"));
        for (bytes, said) in [
            (&b"hell"[..], Some("has 4 bytes, of 5 that were written")),
            (b"hellO", Some("its checksum differs")),
            (b"hello", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            match said {
                Some(said) => assert!(problem().unwrap().contains(said), "{:?}", problem()),
                None => assert_eq!(problem(), None),
            }
        }
        let mut outside = Sums::default();
        outside.add("../secret", Written::of_bytes(b""));
        let damage = outside.damage(folder.path()).unwrap().unwrap();
        assert!(damage.problem.contains("no file of its folder"), "{damage}");
    }
}
