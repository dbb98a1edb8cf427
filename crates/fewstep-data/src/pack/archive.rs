//! Shards being written, one after the other. It knows nothing of where samples come from.

use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

use image::{ImageFormat, ImageReader};
use serde_json::json;
use tar::{Builder, Header};

use super::PackError;
use crate::sample::Sample;

/// What the header of a picture says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    extension: &'static str,
    width: u32,
    height: u32,
}

/// Reads a picture's header.
///
/// # Errors
/// Why the bytes are no picture, in words.
pub(super) fn picture(bytes: &[u8]) -> Result<Picture, String> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("cannot be read: {error}"))?;
    let extension = match reader.format() {
        Some(ImageFormat::Jpeg) => "jpg",
        Some(ImageFormat::Png) => "png",
        Some(ImageFormat::WebP) => "webp",
        _ => return Err("is neither a JPEG, a PNG nor a WebP picture".into()),
    };
    let (width, height) = reader
        .into_dimensions()
        .map_err(|error| format!("has no readable header: {error}"))?;
    Ok(Picture {
        extension,
        width,
        height,
    })
}

/// The shards `00000.tar`, `00001.tar` and so on.
pub(super) struct Archives {
    folder: PathBuf,
    shard_size: u64,
    samples: u64,
    begun: u64,
    open: Option<Archive>,
}

struct Archive {
    path: PathBuf,
    builder: Builder<BufWriter<File>>,
}

impl Archives {
    /// Shards of `shard_size` samples in `folder`.
    pub(super) fn new(folder: &Path, shard_size: u64) -> Self {
        Archives {
            folder: folder.into(),
            shard_size: shard_size.max(1),
            samples: 0,
            begun: 0,
            open: None,
        }
    }

    /// Shards begun so far.
    pub(super) fn count(&self) -> u64 {
        self.begun
    }

    /// Adds a sample. Its key is its number: names of files may hold dots, which end a key.
    ///
    /// # Errors
    /// The shard cannot be written.
    pub(super) fn add(&mut self, sample: &Sample, picture: &Picture) -> Result<(), PackError> {
        if self.samples.is_multiple_of(self.shard_size) {
            self.finish()?;
        }
        let archive = match &mut self.open {
            Some(archive) => archive,
            none => {
                let path = self.folder.join(format!("{:05}.tar", self.begun));
                self.begun += 1;
                none.insert(Archive::create(path)?)
            }
        };
        let key = format!("{:09}", self.samples);
        let (width, height) = (picture.width, picture.height);
        // The names are those of img2dataset, which the reference's size filter reads.
        let caption = sample.captions.first().map(String::as_str).unwrap_or_default();
        // A text file has one caption; JSON has room for all.
        let all = match sample.captions.len() {
            0 | 1 => json!(caption),
            _ => json!(sample.captions),
        };
        let about = json!({
            "width": width, "height": height, "original_width": width, "original_height": height,
            "file": sample.key, "caption": all,
        });
        archive.append(&format!("{key}.{}", picture.extension), &sample.image)?;
        archive.append(&format!("{key}.txt"), caption.as_bytes())?;
        archive.append(&format!("{key}.json"), about.to_string().as_bytes())?;
        self.samples += 1;
        Ok(())
    }

    /// Completes the shard that is being written.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn finish(&mut self) -> Result<(), PackError> {
        self.open.take().map_or(Ok(()), Archive::finish)
    }
}

impl Archive {
    fn create(path: PathBuf) -> Result<Self, PackError> {
        let file = File::create_new(&path).map_err(PackError::io("make", &path))?;
        Ok(Archive {
            builder: Builder::new(BufWriter::new(file)),
            path,
        })
    }

    /// Dates and owners are left out: they would make other bytes of the same pictures.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.builder
            .append_data(&mut header, name, bytes)
            .map_err(PackError::io("write", &self.path))
    }

    fn finish(self) -> Result<(), PackError> {
        let Archive { path, builder } = self;
        builder
            .into_inner()
            .and_then(|mut writer| {
                writer.flush()?;
                writer.get_ref().sync_all()
            })
            .map_err(PackError::io("write", &path))
    }
}
