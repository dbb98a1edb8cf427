//! A folder of pictures as a list of shards: one for each picture, and one for each row group of a parquet file.
//!
//! Captions come from the metadata files in the folder (`metadata.jsonl`, `.csv` or `.parquet`; their rows in their order)
//! or, where there is none, from a `.txt` beside each picture; a parquet file has its own. Folders inside the folder
//! belong to it. Names are sorted, so that the same files make the same list. What a file says is looked at here, the
//! pictures only when the order comes to them.

mod columns;
mod csv;
mod error;
mod jsonl;
mod metadata;
mod parquet;
mod picture;
mod walk;

pub use error::FolderError;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::PictureFolder;
use crate::drops::Cause;
use crate::shard::Shard;
use metadata::Line;
use picture::{Content, Picture};
use walk::Files;

/// The shards that `folder` stands for, in a fixed order: rows of metadata, pictures by name, parquet files by name.
///
/// What is wrong with a single row or picture is no error here: it is dropped and counted when its turn comes.
///
/// # Errors
/// The folder cannot be listed, holds no captioned pictures, or lacks a column.
pub fn list(folder: &PictureFolder) -> Result<Vec<Arc<dyn Shard>>, FolderError> {
    let files = walk::files(&folder.path)?;
    let listing = Listing::new(folder);
    let mut shards: Vec<Arc<dyn Shard>> = Vec::new();
    let mut named = HashSet::new();
    for file in &files.metadata {
        for line in metadata::read(&folder.path, file, folder)? {
            if let Ok(entry) = &line.entry {
                named.insert(entry.picture.clone());
            }
            shards.push(Arc::new(listing.row(file, line, &files)));
        }
    }
    let mut captioned = !files.metadata.is_empty() || !files.parquet.is_empty();
    for picture in files.pictures.keys().filter(|picture| !named.contains(*picture)) {
        let content = content(picture, &files);
        captioned |= matches!(content, Content::CaptionFile(..));
        shards.push(Arc::new(listing.picture(picture, content, &files)));
    }
    for file in &files.parquet {
        for group in parquet::row_groups(file, folder)? {
            shards.push(Arc::new(group));
        }
    }
    if !captioned {
        return Err(FolderError::NoCaptions {
            folder: folder.path.clone(),
            found: files.summary(),
        });
    }
    Ok(shards)
}

/// Where the caption of a picture is that no metadata file names.
fn content(picture: &Path, files: &Files) -> Content {
    let beside = picture.with_extension("txt");
    if !files.metadata.is_empty() {
        Content::Dropped(Cause::MissingCaption, "is named in no metadata file".into())
    } else if let Some(bytes) = files.texts.get(&beside) {
        Content::CaptionFile(beside, *bytes)
    } else {
        let why = format!("has no {} beside it", beside.display());
        Content::Dropped(Cause::MissingCaption, why)
    }
}

/// Makes pictures of what the files say.
struct Listing {
    root: Arc<Path>,
    name: Arc<str>,
}

impl Listing {
    fn new(folder: &PictureFolder) -> Self {
        Listing {
            root: folder.path.as_path().into(),
            name: folder.path.display().to_string().into(),
        }
    }

    fn picture(&self, file: &Path, content: Content, files: &Files) -> Picture {
        let bytes = files.pictures.get(file).copied().unwrap_or(0);
        Picture::new(&self.root, &self.name, file.to_path_buf(), bytes, content)
    }

    /// The row of a metadata file; one that names no picture stands for itself.
    fn row(&self, metadata: &Path, line: Line, files: &Files) -> Picture {
        let is_parquet = metadata
            .extension()
            .is_some_and(|extension| extension == "parquet");
        let unit = if is_parquet { "row" } else { "line" };
        let row = format!("{}, {unit} {}", metadata.display(), line.number);
        let place = format!("({row})");
        match line.entry {
            Ok(entry) if entry.captions.is_empty() => {
                let why = format!("{place} has an empty caption column");
                let content = Content::Dropped(Cause::MissingCaption, why);
                self.picture(&entry.picture, content, files)
            }
            Ok(entry) => self.picture(&entry.picture, Content::Captions(entry.captions, place), files),
            Err((cause, why)) => self.picture(Path::new(&row), Content::Dropped(cause, why), files),
        }
    }
}
