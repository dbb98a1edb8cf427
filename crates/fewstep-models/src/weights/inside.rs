//! Reading files of a model's folder, which may come from anywhere: a link in it must not lead out of it, what is
//! read as text is of a bounded size, and nothing but a plain file is opened.
//!
//! Paths that a user names are the user's own business, links and all. What such a folder names or holds is checked
//! here, once, before it is opened: a folder that is changed meanwhile is not defended against.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ModelError;

/// Configurations and vocabularies have some megabytes at most.
const LONGEST_TEXT: u64 = 64 << 20;

/// Refuses a file that is no plain file, or a link out of its own folder.
///
/// The model hub's cache keeps a snapshot's files as links into `blobs` beside `snapshots`: these are taken.
///
/// # Errors
/// That, or the file is not there.
pub(crate) fn check_file(path: &Path) -> Result<(), ModelError> {
    let io = |error| ModelError::io("read", path, error);
    let file = path.canonicalize().map_err(io)?;
    let folder = parent(path).canonicalize().map_err(io)?;
    if !file.starts_with(&folder) && !in_hub_cache(&folder, &file) {
        return Err(leads_out(path, file));
    }
    match fs::metadata(&file).map_err(io)?.is_file() {
        true => Ok(()),
        false => Err(ModelError::malformed(path, "is not a plain file")),
    }
}

/// Refuses a part of a model's folder that is a link out of it. One that is not there is no link.
///
/// # Errors
/// That, or the system refuses to look.
pub(super) fn check_part(root: &Path, part: &Path) -> Result<(), ModelError> {
    let real = |path: &Path| match path.canonicalize() {
        Ok(real) => Ok(Some(real)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::io("read", path, error)),
    };
    match (real(root)?, real(part)?) {
        (Some(root), Some(place)) if !place.starts_with(&root) => Err(leads_out(part, place)),
        _ => Ok(()),
    }
}

/// The text of a file of a model's folder.
///
/// # Errors
/// It is a link out of its folder, no plain file, too long, or not text.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    check_file(path)?;
    let io = |error| ModelError::io("read", path, error);
    let length = fs::metadata(path).map_err(io)?.len();
    if length > LONGEST_TEXT {
        let problem =
            format_args!("has {length} bytes, more than the {LONGEST_TEXT} that such a file may have");
        return Err(ModelError::malformed(path, problem));
    }
    fs::read_to_string(path).map_err(io)
}

/// Whether `file` is a blob of the hub's cache in which `folder` is a snapshot, or lies in one; both are real paths.
fn in_hub_cache(folder: &Path, file: &Path) -> bool {
    folder
        .ancestors()
        .filter(|place| place.file_name().is_some_and(|name| name == "snapshots"))
        .filter_map(Path::parent)
        .any(|model| file.starts_with(model.join("blobs")))
}

fn leads_out(path: &Path, to: PathBuf) -> ModelError {
    ModelError::LeadsOut {
        path: path.to_owned(),
        to,
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
