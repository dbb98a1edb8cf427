//! The files of a folder and of those inside it, sorted by what they may be. It opens no file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::FolderError;

/// Extensions of pictures. The decoder refuses some of them: then they are counted, not overlooked.
const PICTURES: [&str; 11] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl",
];

/// File names of metadata.
const METADATA: [&str; 3] = ["metadata.jsonl", "metadata.csv", "metadata.parquet"];

/// What a folder holds, as paths relative to it, each list by name.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// With their sizes in bytes.
    pub(super) pictures: BTreeMap<PathBuf, u64>,
    pub(super) metadata: Vec<PathBuf>,
    pub(super) parquet: Vec<PathBuf>,
    /// With their sizes in bytes.
    pub(super) texts: HashMap<PathBuf, u64>,
    /// Shards, which are for another flag.
    tars: usize,
    others: usize,
}

impl Files {
    fn add(&mut self, path: PathBuf, bytes: u64) {
        let lower = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().to_lowercase());
        let extension = lower(path.extension()).unwrap_or_default();
        if PICTURES.contains(&&*extension) {
            self.pictures.insert(path, bytes);
        } else if path
            .file_name()
            .is_some_and(|name| METADATA.iter().any(|known| name == *known))
        {
            self.metadata.push(path);
        } else if extension == "parquet" {
            self.parquet.push(path);
        } else if extension == "txt" {
            self.texts.insert(path, bytes);
        } else if extension == "tar" {
            self.tars += 1;
        } else {
            self.others += 1;
        }
    }

    /// What is there, for a message.
    pub(super) fn summary(&self) -> String {
        let counts = [
            (self.pictures.len(), "picture(s)"),
            (self.texts.len(), ".txt file(s), none named as a picture"),
            (self.tars, "shard(s), which are for --train_shards_path_or_url"),
            (self.others, "other file(s)"),
        ];
        let found = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect::<Vec<_>>();
        if found.is_empty() {
            return "it is empty".into();
        }
        format!("it holds {}", found.join(", "))
    }
}

/// Lists `root`. Hidden files and folders are no part of it; links are followed, each folder once.
///
/// # Errors
/// A folder that does not exist or cannot be listed.
pub(super) fn files(root: &Path) -> Result<Files, FolderError> {
    if !root.is_dir() {
        return Err(FolderError::Missing { folder: root.into() });
    }
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let fail = |source| FolderError::Read {
            path: path.clone(),
            source,
        };
        if !seen.insert(path.canonicalize().map_err(fail)?) {
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let file = folder.join(&name);
            match root.join(&file).metadata() {
                Ok(about) if about.is_dir() => inside.push(file),
                // What cannot even be looked at is told when it is read.
                about => files.push((file, about.map_or(0, |about| about.len()))),
            }
        }
        // The last is popped first: of two links to one folder it is always the same that counts.
        inside.sort_unstable_by(|a, b| b.cmp(a));
        folders.append(&mut inside);
    }
    files.sort_unstable();
    let mut sorted = Files::default();
    for (file, bytes) in files {
        sorted.add(file, bytes);
    }
    Ok(sorted)
}
