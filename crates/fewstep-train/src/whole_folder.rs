//! Folders that are there whole or not at all: filled as `NAME.tmp`, synced, then renamed. An earlier one of that
//! name steps aside as `NAME.old` until the new one is there.
//!
//! It knows nothing of what the folders hold.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::TrainError;

const UNFINISHED: &str = "tmp";
const ASIDE: &str = "old";

/// Makes the folder `place` through `fill`, which is given where to write.
///
/// # Errors
/// What `fill` or the operating system refuses: a full disk, most often. The unfinished folder is removed, and an
/// earlier one of that name stays.
pub(crate) fn put<T>(
    place: &Path,
    fill: impl FnOnce(&Path) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    let unfinished = beside(place, UNFINISHED);
    remove(&unfinished)?;
    make(&unfinished)?;
    let filled = fill(&unfinished).and_then(|filled| {
        sync(&unfinished)?;
        put_in_place(&unfinished, place)?;
        Ok(filled)
    });
    if filled.is_err() {
        // The first error is the one to tell; what stays is only an unfinished folder.
        let _ = fs::remove_dir_all(&unfinished);
    }
    filled
}

/// Makes a folder and those above it.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn make(folder: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(|error| TrainError::io("make folder", folder, error))
}

/// Removes a folder so that a crash half-way leaves nothing under its name.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn discard(place: &Path) -> Result<(), TrainError> {
    let doomed = beside(place, UNFINISHED);
    remove(&doomed)?;
    rename(place, &doomed)?;
    remove(&doomed)
}

/// Moves a folder to another name beside it, over whatever has that name.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn move_aside(place: &Path, ending: &str) -> Result<PathBuf, TrainError> {
    let aside = beside(place, ending);
    remove(&aside)?;
    rename(place, &aside)?;
    Ok(aside)
}

/// Puts a run's folder in order after a crash. Of the places inside that `is_ours` knows, what was unfinished is
/// removed, and what had stepped aside for a successor that never came is brought back; so are unfinished files
/// removed.
///
/// # Errors
/// Something cannot be removed or renamed.
pub(crate) fn recover(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Result<(), TrainError> {
    let list = |error| TrainError::io("list", folder, error);
    for entry in fs::read_dir(folder).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some((place, ending)) = name.rsplit_once('.') else {
            continue;
        };
        if is_unfinished_file(place, ending) && !path.is_dir() {
            fs::remove_file(&path).map_err(|error| TrainError::io("remove", &path, error))?;
        } else if is_ours(place) {
            let place = folder.join(place);
            match ending {
                ASIDE if !place.exists() => rename(&path, &place)?,
                UNFINISHED | ASIDE => remove(&path)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// `FILE.PID` and `tmp`: what a process that was killed leaves of a file that it was writing.
fn is_unfinished_file(stem: &str, ending: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ending == UNFINISHED
        && stem
            .rsplit_once('.')
            .is_some_and(|(file, pid)| !file.is_empty() && is_number(pid))
}

/// Renames a complete folder to its place.
fn put_in_place(complete: &Path, place: &Path) -> Result<(), TrainError> {
    let aside = beside(place, ASIDE);
    if place.exists() {
        remove(&aside)?;
        rename(place, &aside)?;
    }
    if let Err(error) = rename(complete, place) {
        if aside.exists() {
            rename(&aside, place)?;
        }
        return Err(error);
    }
    sync(place.parent().unwrap_or(Path::new(".")))?;
    remove(&aside)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), TrainError> {
    fs::rename(from, to).map_err(|error| TrainError::io("rename", from, error))
}

fn remove(folder: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(TrainError::io("remove", folder, error)),
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

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn hold(folder: &Path, text: &str) -> Result<(), TrainError> {
        fs::write(folder.join("text"), text).map_err(|error| TrainError::io("write", folder, error))
    }

    #[test]
    fn a_folder_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("unet");
        put(&place, |folder| hold(folder, "one")).unwrap();
        put(&place, |folder| hold(folder, "two")).unwrap();
        let full = |folder: &Path| {
            hold(folder, "half")?;
            Err::<(), _>(TrainError::io("write", folder, ErrorKind::StorageFull.into()))
        };
        put(&place, full).unwrap_err();
        assert_eq!(fs::read_to_string(place.join("text")).unwrap(), "two");
        assert_eq!(names(folder.path()), ["unet"]);
    }

    #[test]
    fn a_crash_leaves_nothing_behind_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a",
            "a.old",
            "b.old",
            "c.tmp",
            "a.damaged",
            "foreign.tmp",
            "foreign.7.tmp",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["metrics.jsonl", "metrics.jsonl.123.tmp", "notes.tmp", "x.y.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        recover(folder.path(), |name| ["a", "b", "c"].contains(&name)).unwrap();
        assert_eq!(
            names(folder.path()),
            [
                "a",
                "a.damaged",
                "b",
                "foreign.7.tmp",
                "foreign.tmp",
                "metrics.jsonl",
                "notes.tmp",
                "x.y.tmp"
            ]
        );
    }
}
