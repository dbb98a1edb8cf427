//! Files that are there whole or not at all: written beside their place, synced, then renamed.
//!
//! It knows nothing of what the files hold.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ModelError;
use super::sum::{Summing, Written};

/// A file that is being written.
pub struct AtomicFile(Summing<BufWriter<File>>);

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a file through `fill`, and returns what it holds. Until it is complete and on the disk, an earlier file
/// of that name stays.
///
/// # Errors
/// What the operating system or `fill` refused; the unfinished file is removed then.
pub fn write_atomic<E: From<ModelError>>(
    path: &Path,
    fill: impl FnOnce(&mut AtomicFile) -> Result<(), E>,
) -> Result<Written, E> {
    let beside = name_beside(path);
    let written = write_and_sync(&beside, fill).and_then(|written| {
        fs::rename(&beside, path).map_err(|error| ModelError::io("rename to", path, error))?;
        sync_parent(path)?;
        Ok(written)
    });
    if written.is_err() {
        // The first error is the one to tell; what cannot be removed is only an unfinished file.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Writes JSON as diffusers does: indented by two spaces, with a line end.
///
/// # Errors
/// What the operating system refused.
pub fn write_json_atomic(path: &Path, value: &Value) -> Result<Written, ModelError> {
    write_atomic(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| ModelError::io("write", path, error))
    })
}

fn write_and_sync<E: From<ModelError>>(
    path: &Path,
    fill: impl FnOnce(&mut AtomicFile) -> Result<(), E>,
) -> Result<Written, E> {
    let io = |error| ModelError::io("write", path, error);
    let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    let mut file = AtomicFile(Summing::new(file));
    fill(&mut file)?;
    file.flush().map_err(io)?;
    file.0.get_ref().get_ref().sync_all().map_err(io)?;
    Ok(file.0.written())
}

/// A name in the same folder, so that renaming stays within one file system.
fn name_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Syncs the folder, since a rename is only on the disk when its folder is.
fn sync_parent(path: &Path) -> Result<(), ModelError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| ModelError::io("sync", parent, error))
}
