//! The first half of a sample's way into a batch: its picture, decoded and resized. Any thread may do this in any order,
//! since it needs no sample number: a number is known only when it is known which samples before could be decoded.
//! A picture of which the cache has every square that may be asked for is not decoded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cache::Key;
use crate::config::DataConfig;
use crate::drops::{Cause, Dropped};
use crate::picture::{self, DecodeError, Opened, PictureResizer, Rgb};
use crate::sample::Sample;

/// A sample whose picture is decoded and resized, not yet cropped.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) name: String,
    pub(crate) captions: Vec<String>,
    pub(crate) picture: Picture,
    /// The digest of its file.
    pub(crate) digest: Key,
    /// (height, width) after the resize.
    pub(crate) size: (u32, u32),
    /// (height, width) before the resize, turned upright.
    pub(crate) original: (u32, u32),
}

/// A sample's picture.
#[derive(Debug)]
pub(crate) enum Picture {
    /// Decoded and resized.
    Resized(Rgb),
    /// Still a file, since the cache has all that is wanted of it.
    Known(Vec<u8>),
}

/// What a header tells.
struct Header {
    size: (u32, u32),
    original: (u32, u32),
}

/// A picture, or why it is none, after the sample's name.
type Outcome<T> = Result<T, (Cause, String)>;

/// Decodes samples, keeping its buffers between them.
#[derive(Debug)]
pub(crate) struct Decoder {
    config: DataConfig,
    resizer: PictureResizer,
}

impl Decoder {
    pub(crate) fn new(config: &DataConfig) -> Self {
        Decoder {
            config: config.clone(),
            resizer: PictureResizer::default(),
        }
    }

    /// Decodes and resizes, unless the cache has all of it.
    pub(crate) fn decode(&mut self, sample: Sample) -> Result<Decoded, Dropped> {
        let name = sample.name();
        let digest = Key::of(&sample.image);
        let outcome = self.guarded(|decoder| {
            let (header, opened) = decoder.opened(&sample.image)?;
            let picture = match decoder.config.knows(digest, header.size) {
                true => None,
                false => Some(decoder.resized(opened, header.size)?),
            };
            Ok((header, picture))
        });
        match outcome {
            Ok((Header { size, original }, picture)) => Ok(Decoded {
                name,
                captions: sample.captions,
                picture: picture.map_or(Picture::Known(sample.image), Picture::Resized),
                digest,
                size,
                original,
            }),
            Err((cause, why)) => Err(Dropped::new(cause, &format!("{name} {why}"))),
        }
    }

    /// Decodes and resizes a picture whatever the cache has; `name` is its sample's.
    pub(crate) fn picture(&mut self, name: &str, file: &[u8]) -> Result<Rgb, Dropped> {
        self.guarded(|decoder| {
            let (header, opened) = decoder.opened(file)?;
            decoder.resized(opened, header.size)
        })
        .map_err(|(cause, why)| Dropped::new(cause, &format!("{name} {why}")))
    }

    /// A decoder that panics over a hostile picture has found a bad picture, no more.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            self.resizer = PictureResizer::default();
            Err((Cause::BadPicture, "makes the decoder panic".into()))
        })
    }

    /// Reads the header, and refuses what is not wanted.
    fn opened<'a>(&self, file: &'a [u8]) -> Outcome<(Header, Opened<'a>)> {
        let DataConfig {
            resolution,
            limits,
            wanted,
            ..
        } = &self.config;
        let opened = picture::open(file, limits).map_err(because)?;
        let original = opened.size();
        wanted.size(*resolution, original.0, original.1)?;
        let (height, width) = picture::shorter_side_to(*resolution, original.0, original.1);
        let limit = limits.max_pixels;
        let too_large = || {
            let why = format!("would be resized to {width} x {height} pixels, the limit is {limit} in all");
            (Cause::OversizedPicture, why)
        };
        if height.saturating_mul(width) > limit {
            return Err(too_large());
        }
        let (Ok(height), Ok(width)) = (u32::try_from(height), u32::try_from(width)) else {
            return Err(too_large());
        };
        let size = (height, width);
        Ok((Header { size, original }, opened))
    }

    fn resized(&mut self, opened: Opened<'_>, (height, width): (u32, u32)) -> Outcome<Rgb> {
        let turn = opened.turn();
        let picture = opened.decode().map_err(because)?;
        self.resizer
            .upright(picture, turn, height, width, self.config.interpolation)
            .map_err(|error| (Cause::BadPicture, error.to_string()))
    }
}

fn because(error: DecodeError) -> (Cause, String) {
    let cause = match error {
        DecodeError::TooLarge { .. } | DecodeError::TooLong { .. } => Cause::OversizedPicture,
        DecodeError::Format | DecodeError::Broken(_) => Cause::BadPicture,
    };
    (cause, error.to_string())
}
