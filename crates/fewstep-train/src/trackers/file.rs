//! A file that grows by whole records. It knows nothing of what they hold.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::TrainError;

/// The open file.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: File,
    path: PathBuf,
    /// Bytes of whole records in it.
    len: u64,
}

impl RecordFile {
    /// Opens or makes the file, and takes off what comes after the first `len` bytes.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(super) fn open(path: &Path, len: u64) -> Result<Self, TrainError> {
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let mut file = opened.map_err(|error| TrainError::io("open", path, error))?;
        file.set_len(len)
            .and_then(|()| file.seek(SeekFrom::Start(len)))
            .map_err(|error| TrainError::io("write", path, error))?;
        Ok(RecordFile {
            file,
            path: path.to_owned(),
            len,
        })
    }

    /// Where the next record begins.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes a record; after an error the file ends with the one before.
    ///
    /// # Errors
    /// What the operating system refuses: a full disk, most often.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), TrainError> {
        if let Err(error) = self.file.write_all(record) {
            // Making a file shorter takes no room.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(TrainError::io("write", &self.path, error));
        }
        self.len += record.len() as u64;
        Ok(())
    }
}
