//! One picture of a folder, read when the order comes to it. It knows nothing of how its caption was found.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::caption;
use crate::config::Limits;
use crate::drops::{Cause, Dropped};
use crate::place::Place;
use crate::sample::{Found, Sample};
use crate::shard::{Finds, Shard};

/// A picture of a folder, or what stands in its place.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    root: Arc<Path>,
    /// The folder, for messages.
    folder: Arc<str>,
    /// Relative to the folder.
    file: PathBuf,
    /// With the folder.
    name: String,
    /// Its size when the folder was listed; 0 where it was not there.
    bytes: u64,
    content: Content,
}

/// What is known of a picture before it is read.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Its captions, at least one, and the row that says so.
    Captions(Vec<String>, String),
    /// The file with its caption, relative to the folder, and the size that it had when the folder was listed.
    CaptionFile(PathBuf, u64),
    /// Why it cannot be used.
    Dropped(Cause, String),
}

/// Why a file was not read.
enum Unread {
    TooLarge(u64),
    Failed(io::Error),
}

impl Picture {
    pub(super) fn new(
        root: &Arc<Path>,
        folder: &Arc<str>,
        file: PathBuf,
        bytes: u64,
        content: Content,
    ) -> Self {
        Picture {
            name: root.join(&file).display().to_string(),
            root: Arc::clone(root),
            folder: Arc::clone(folder),
            file,
            bytes,
            content,
        }
    }

    fn find(&self, limits: &Limits) -> Found {
        match self.sample(limits) {
            Ok(sample) => Found::Sample(sample),
            Err((cause, why)) => Found::Dropped(Dropped::new(cause, &format!("{} {why}", self.name))),
        }
    }

    fn sample(&self, limits: &Limits) -> Result<Sample, (Cause, String)> {
        let (captions, row) = match &self.content {
            Content::Captions(captions, row) => (captions.clone(), row.as_str()),
            Content::CaptionFile(file, _) => (vec![self.caption(file, limits.max_text_bytes)?], ""),
            Content::Dropped(cause, why) => return Err((*cause, why.clone())),
        };
        let limit = limits.max_member_bytes;
        let image = read(&self.root.join(&self.file), limit).map_err(|unread| match unread {
            Unread::Failed(error) if error.kind() == io::ErrorKind::NotFound => (
                Cause::MissingImage,
                format!("{row} does not exist").trim_start().to_owned(),
            ),
            unread => unread.because(limit),
        })?;
        Sample::new(&self.folder, self.file.display().to_string(), image, captions)
    }

    /// What a caption's file says.
    fn caption(&self, file: &Path, limit: u64) -> Result<String, (Cause, String)> {
        let fail = |cause, why: &str| {
            (
                cause,
                format!("has the caption file {}, which {why}", file.display()),
            )
        };
        let bytes = read(&self.root.join(file), limit).map_err(|unread| {
            let (cause, why) = unread.because(limit);
            fail(cause, &why)
        })?;
        caption::from_file(bytes).ok_or_else(|| fail(Cause::CaptionNotUtf8, "is not UTF-8"))
    }
}

impl Unread {
    fn because(self, limit: u64) -> (Cause, String) {
        match self {
            Unread::TooLarge(bytes) => {
                let why = format!("has {bytes} bytes, the limit is {limit}");
                (Cause::OversizedMember, why)
            }
            Unread::Failed(error) => (Cause::UnreadableFile, format!("cannot be read: {error}")),
        }
    }
}

impl Shard for Picture {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        let mut add = |bytes: &[u8]| {
            hasher.write(&(bytes.len() as u64).to_le_bytes());
            hasher.write(bytes);
        };
        add(self.file.as_os_str().as_encoded_bytes());
        add(&self.bytes.to_le_bytes());
        match &self.content {
            Content::Captions(captions, _) => captions.iter().for_each(|caption| add(caption.as_bytes())),
            Content::CaptionFile(_, bytes) => add(&bytes.to_le_bytes()),
            Content::Dropped(_, why) => add(why.as_bytes()),
        }
    }

    fn samples(&self) -> Option<u64> {
        Some(1)
    }

    fn open(&self, _from: Place, limits: &Limits) -> io::Result<Finds> {
        Ok(Box::new(std::iter::once((Place::START, self.find(limits)))))
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Unread> {
    let file = File::open(path).map_err(Unread::Failed)?;
    let size = file.metadata().map_err(Unread::Failed)?.len();
    if size > limit {
        return Err(Unread::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A file may grow while it is read.
    file.take(limit).read_to_end(&mut bytes).map_err(Unread::Failed)?;
    Ok(bytes)
}
