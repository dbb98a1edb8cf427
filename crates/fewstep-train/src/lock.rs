//! One run at a time in a folder: a file that the system keeps locked for as long as the process lives.
//!
//! The lock ends with the process, however it ends, so that nothing stale is left behind. What is written in the
//! file only serves to say who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

const NAME: &str = ".lock";

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// Seconds since 1970.
    since: u64,
}

/// A folder that no other run may use until this is dropped.
#[derive(Debug)]
pub(crate) struct RunLock {
    /// None on a file system without locks.
    _file: Option<File>,
}

impl RunLock {
    /// Takes the lock of a run's folder. On a file system that has no locks there is nothing to take; the reason is
    /// returned, to be told.
    ///
    /// # Errors
    /// Another run holds it, or the file cannot be made.
    pub(crate) fn take(output_dir: &Path) -> Result<(Self, Option<std::io::Error>), TrainError> {
        let path = output_dir.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| TrainError::io("open", &path, error))?;
        match file.try_lock() {
            // A run that did not come to start may have taken its file away since it was opened here.
            Ok(()) if !is_at(&file, &path) => return RunLock::take(output_dir),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TrainError::Locked {
                    folder: output_dir.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(reason)) => return Ok((RunLock { _file: None }, Some(reason))),
        }
        // Only for the message that another run would give.
        let _ = describe(&mut file);
        Ok((RunLock { _file: Some(file) }, None))
    }

    /// Takes the file away from a folder that shall be empty again, while it is still locked.
    pub(crate) fn remove(&self, output_dir: &Path) {
        let _ = std::fs::remove_file(output_dir.join(NAME));
    }
}

/// Whether `path` is the open file, and not another one by now or none.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn describe(file: &mut File) -> std::io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let holder = Holder {
        pid: std::process::id(),
        host: host(),
        since: since.map_or(0, |since| since.as_secs()),
    };
    let mut text = serde_json::to_vec(&holder)?;
    text.push(b'\n');
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

/// Who holds the lock, in words.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let holder = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let Some(Holder { pid, host, since }) = holder else {
        return "another process, which has just started".to_owned();
    };
    let since = i64::try_from(since)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .map_or(String::new(), |time| {
            time.format(", since %Y-%m-%d %H:%M:%S UTC").to_string()
        });
    format!("process {pid} on {host}{since}")
}

/// The machine's name, where the system says.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "this machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_takes_over_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (first, reason) = RunLock::take(folder.path()).unwrap();
        assert!(reason.is_none());
        let text = RunLock::take(folder.path()).unwrap_err().to_string();
        let pid = format!("process {} on {}", std::process::id(), host());
        assert!(text.contains(&pid), "{text}");
        assert!(text.contains(", since 20") && text.contains(" UTC"), "{text}");
        assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
        drop(first);
        // What the first left in the file is in nobody's way.
        RunLock::take(folder.path()).unwrap();
    }
}
