//! Which columns of a metadata file are read, and the error where one is missing. It reads no file.

use std::path::Path;

use super::FolderError;
use crate::config::PictureFolder;

/// The column that names the picture's file, before all others.
pub(super) const FILE_NAME: &str = "file_name";

/// What to do where the captions' column is missing.
pub(super) const CAPTION_REMEDY: &str = "name the column of the captions with --caption_column";

/// What to do where the pictures' column is missing.
pub(super) const IMAGE_REMEDY: &str = "name the column of the pictures with --image_column";

/// `file` lacks the column with the pictures' names; `found` are those it has.
pub(super) fn no_file_name<'a>(
    file: &Path,
    folder: &PictureFolder,
    found: impl IntoIterator<Item = &'a str>,
) -> FolderError {
    no_column(
        file,
        format!("{FILE_NAME} or {}", folder.image_column),
        found,
        "name the column of the files' names with --image_column",
    )
}

/// `file` lacks the column with the captions; `found` are those it has.
pub(super) fn no_caption<'a>(
    file: &Path,
    folder: &PictureFolder,
    found: impl IntoIterator<Item = &'a str>,
) -> FolderError {
    no_column(file, folder.caption_column.clone(), found, CAPTION_REMEDY)
}

/// `file` lacks the column `wanted`; `found` are those it has.
pub(super) fn no_column<'a>(
    file: &Path,
    wanted: String,
    found: impl IntoIterator<Item = &'a str>,
    remedy: &'static str,
) -> FolderError {
    FolderError::Column {
        file: file.into(),
        wanted,
        found: found.into_iter().collect::<Vec<_>>().join(", "),
        remedy,
    }
}
