//! The first half of a sample's way into a batch: its picture, decoded and resized. Any thread may do this in any order,
//! since it needs no sample number: a number is known only when it is known which samples before could be decoded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::DataConfig;
use crate::drops::{Cause, Dropped};
use crate::picture::{self, DecodeError, PictureResizer, Rgb};
use crate::sample::Sample;

/// A sample whose picture is decoded and resized, not yet cropped.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) name: String,
    pub(crate) captions: Vec<String>,
    pub(crate) picture: Rgb,
    /// (height, width) before the resize, turned upright.
    pub(crate) original: (u32, u32),
}

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

    /// Decodes and resizes. A decoder that panics over a hostile picture has found a bad picture, no more.
    pub(crate) fn decode(&mut self, sample: Sample) -> Result<Decoded, Dropped> {
        let name = sample.name();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.resized(&sample.image)));
        let (cause, why) = match outcome {
            Ok(Ok((picture, original))) => {
                return Ok(Decoded {
                    name,
                    captions: sample.captions,
                    picture,
                    original,
                });
            }
            Ok(Err(dropped)) => dropped,
            Err(_) => {
                self.resizer = PictureResizer::default();
                (Cause::BadPicture, "makes the decoder panic".into())
            }
        };
        Err(Dropped::new(cause, &format!("{name} {why}")))
    }

    fn resized(&mut self, bytes: &[u8]) -> Result<(Rgb, (u32, u32)), (Cause, String)> {
        let DataConfig {
            resolution,
            limits,
            wanted,
            interpolation,
            ..
        } = &self.config;
        let opened = picture::open(bytes, limits).map_err(because)?;
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
        let turn = opened.turn();
        let picture = opened.decode().map_err(because)?;
        let picture = self
            .resizer
            .upright(picture, turn, height, width, *interpolation)
            .map_err(|error| (Cause::BadPicture, error.to_string()))?;
        Ok((picture, original))
    }
}

fn because(error: DecodeError) -> (Cause, String) {
    let cause = match error {
        DecodeError::TooLarge { .. } | DecodeError::TooLong { .. } => Cause::OversizedPicture,
        DecodeError::Format | DecodeError::Broken(_) => Cause::BadPicture,
    };
    (cause, error.to_string())
}
