//! The folder of the shards: worked on under another name, and renamed when it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::PackError;

/// Where shards are written, and what that place will be called.
#[derive(Debug)]
pub(super) struct Place {
    work: PathBuf,
    out: PathBuf,
}

impl Place {
    /// Makes an empty folder to work in. Of an interrupted packing it removes the shards.
    ///
    /// # Errors
    /// `out` is occupied; the folder to work in holds something else than shards, or cannot be made.
    pub(super) fn prepare(out: &Path) -> Result<Self, PackError> {
        let mut name = out
            .file_name()
            .ok_or_else(|| PackError::NoName { out: out.into() })?
            .to_owned();
        name.push(".packing");
        let place = Place {
            work: out.with_file_name(name),
            out: out.into(),
        };
        if out.exists() && !is_empty_folder(out) {
            return Err(PackError::Occupied { out: out.into() });
        }
        if place.work.exists() {
            place.clear()?;
        }
        fs::create_dir_all(&place.work).map_err(PackError::io("make the folder", &place.work))?;
        Ok(place)
    }

    /// The folder to work in.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn complete(self) -> Result<(), PackError> {
        let Place { work, out } = &self;
        sync_folder(work)?;
        if out.exists() {
            fs::remove_dir(out).map_err(PackError::io("replace the empty folder", out))?;
        }
        fs::rename(work, out).map_err(PackError::io("rename to its place the folder", work))?;
        match out.parent() {
            Some(parent) if parent != Path::new("") => sync_folder(parent),
            _ => sync_folder(Path::new(".")),
        }
    }

    /// Removes the folder to work in, with the shards in it and nothing else.
    ///
    /// # Errors
    /// It holds something else, or the system refuses.
    pub(super) fn clear(&self) -> Result<(), PackError> {
        let entries = fs::read_dir(&self.work).map_err(PackError::io("list", &self.work))?;
        for entry in entries {
            let path = entry.map_err(PackError::io("list", &self.work))?.path();
            let is_shard = path.extension().is_some_and(|extension| extension == "tar")
                && path
                    .file_stem()
                    .is_some_and(|stem| stem.as_encoded_bytes().iter().all(u8::is_ascii_digit));
            if !is_shard || path.is_dir() {
                return Err(PackError::Foreign { path });
            }
            fs::remove_file(&path).map_err(PackError::io("remove", &path))?;
        }
        fs::remove_dir(&self.work).map_err(PackError::io("remove", &self.work))
    }
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn sync_folder(path: &Path) -> Result<(), PackError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(PackError::io("sync the folder", path))
}
