//! Metadata files: rows that name a picture and its captions. It opens no picture.

use std::path::{Component, Path, PathBuf};

use super::{FolderError, csv, jsonl, parquet};
use crate::config::PictureFolder;
use crate::drops::Cause;

/// A row of a metadata file.
#[derive(Debug)]
pub(super) struct Line {
    /// The line on which it begins, from 1; in a parquet file the row, from 0.
    pub(super) number: u64,
    /// What it says, or why it says nothing.
    pub(super) entry: Result<Entry, (Cause, String)>,
}

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The picture, relative to the folder.
    pub(super) picture: PathBuf,
    /// Its captions; none where the column is empty.
    pub(super) captions: Vec<String>,
}

/// The rows of the metadata file `root/file`, in its order.
///
/// # Errors
/// It cannot be read, or lacks a column.
pub(super) fn read(root: &Path, file: &Path, folder: &PictureFolder) -> Result<Vec<Line>, FolderError> {
    let path = root.join(file);
    // Pictures are named as seen from the metadata file.
    let base = file.parent().unwrap_or(Path::new(""));
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => csv::read(&path, base, folder),
        Some("parquet") => parquet::lines(&path, base, folder),
        _ => jsonl::read(&path, base, folder),
    }
}

/// What a row says that names `picture` as seen from the folder `base`.
pub(super) fn entry(base: &Path, picture: &str, captions: Vec<String>) -> Result<Entry, (Cause, String)> {
    let mut path = base.to_path_buf();
    for part in Path::new(picture).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => {
                let why = format!("names {picture}, which is no path inside the folder");
                return Err((Cause::BadRow, why));
            }
        }
    }
    if picture.is_empty() {
        return Err((Cause::BadRow, "names no picture".into()));
    }
    Ok(Entry {
        picture: path,
        captions,
    })
}
