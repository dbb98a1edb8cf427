//! Why a folder was not packed.

use std::io;
use std::path::{Path, PathBuf};

use crate::drops::Drops;
use crate::folder::FolderError;

/// Why a folder was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder of pictures is none, or its columns are wrong.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The place for the shards is taken.
    #[error("{} exists and is not an empty folder; name another place for the shards, or remove it first", out.display())]
    Occupied {
        /// The place.
        out: PathBuf,
    },
    /// The place for the shards has no name of its own.
    #[error("{} cannot become a folder of shards; name a new folder", out.display())]
    NoName {
        /// The place.
        out: PathBuf,
    },
    /// The folder to work in holds what no packing left there.
    #[error("{} is no shard of an interrupted packing; remove it, or name another place for the shards", path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not one sample.
    #[error("nothing in {} could be packed; this is what was left out and why:\n{drops}", folder.display())]
    Nothing {
        /// The folder of pictures.
        folder: PathBuf,
        /// What was left out.
        drops: Box<Drops>,
    },
}

impl PackError {
    /// Trying to do `what` with `path` failed.
    pub(super) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PackError + 'a {
        move |source| PackError::Io {
            what,
            path: path.into(),
            source,
        }
    }
}
