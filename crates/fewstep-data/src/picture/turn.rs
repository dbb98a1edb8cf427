//! Turning a picture upright, as the EXIF data of cameras ask for it. It reads no file.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::Rgb;

/// What turns a picture upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(Orientation);

impl Turn {
    /// Nothing does: it is.
    pub const NONE: Turn = Turn(Orientation::NoTransforms);

    /// What these EXIF data ask for: nothing where there are none, or none that can be read.
    pub(super) fn of(exif: Option<&[u8]>) -> Self {
        // Some WebP files keep the mark that EXIF data have in a JPEG.
        let tiff = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
        Turn(
            tiff.and_then(Orientation::from_exif_chunk)
                .unwrap_or(Orientation::NoTransforms),
        )
    }

    /// Whether it makes rows of columns.
    pub fn swaps(self) -> bool {
        matches!(
            self.0,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }

    /// (height, width) of one turned that has `size` before, or the other way round.
    pub fn size(self, (height, width): (u32, u32)) -> (u32, u32) {
        match self.swaps() {
            true => (width, height),
            false => (height, width),
        }
    }
}

/// `picture`, turned.
pub fn turned(picture: Rgb, turn: Turn) -> Rgb {
    if turn == Turn::NONE {
        return picture;
    }
    let Rgb {
        width,
        height,
        pixels,
    } = picture;
    // An Rgb has as many pixels as its size says; one that has not would come back empty.
    let mut image = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels).unwrap_or_default());
    image.apply_orientation(turn.0);
    Rgb {
        width: image.width(),
        height: image.height(),
        pixels: image.into_rgb8().into_raw(),
    }
}
