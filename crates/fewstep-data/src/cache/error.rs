//! What can go wrong with a cache, and what is worth telling of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the cache's folder {} {problem}: {source}", path.display())]
pub struct CacheError {
    /// The folder.
    pub path: PathBuf,
    /// What could not be done.
    pub problem: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// Something that a cache met with and went on. None of it changes what is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A file does not hold what was written. What it held is made anew.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is as large as it may be.
    Full {
        /// The folder.
        folder: PathBuf,
        /// The bound, in bytes.
        max_bytes: u64,
    },
    /// Nothing can be written to it any more: the disk is full, most often.
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Damaged { path, reason } => write!(
                f,
                "the cache's file {} is damaged ({reason}): what it held is made anew",
                path.display()
            ),
            Note::Full { folder, max_bytes } => write!(
                f,
                "the cache {} is as large as it may be ({:.1} GB): what is not in it is computed each time",
                folder.display(),
                *max_bytes as f64 / 1e9
            ),
            Note::NotWritable { folder, reason } => write!(
                f,
                "nothing more can be written to the cache {} ({reason}): what is not in it is computed each time",
                folder.display()
            ),
        }
    }
}
