//! Resizing as Pillow does it: filters that widen with the reduction, the horizontal pass first, 8 bits between the
//! passes. It knows nothing of crops.

use std::str::FromStr;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Rgb;

/// The filter with which pictures are resized. All but the nearest ones smooth when they reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle.
    #[default]
    Bilinear,
    /// Catmull-Rom cubic.
    Bicubic,
    /// Average of the pixels covered.
    Box,
    /// The pixel in the middle.
    Nearest,
    /// The pixel in the middle; for 8-bit pictures torchvision means the same by both.
    NearestExact,
    /// Hamming window.
    Hamming,
    /// Windowed sinc with three lobes.
    Lanczos,
}

impl Interpolation {
    /// Every one, by name.
    pub const NAMES: [(&'static str, Interpolation); 7] = [
        ("bilinear", Interpolation::Bilinear),
        ("bicubic", Interpolation::Bicubic),
        ("box", Interpolation::Box),
        ("nearest", Interpolation::Nearest),
        ("nearest_exact", Interpolation::NearestExact),
        ("hamming", Interpolation::Hamming),
        ("lanczos", Interpolation::Lanczos),
    ];

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Interpolation::Nearest | Interpolation::NearestExact => return ResizeAlg::Nearest,
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Box => FilterType::Box,
            Interpolation::Hamming => FilterType::Hamming,
            Interpolation::Lanczos => FilterType::Lanczos3,
        })
    }
}

/// The name of no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no interpolation \"{0}\"; take bilinear, bicubic, box, nearest, nearest_exact, hamming or lanczos"
)]
pub struct UnknownInterpolation(String);

impl FromStr for Interpolation {
    type Err = UnknownInterpolation;

    fn from_str(name: &str) -> Result<Self, UnknownInterpolation> {
        Interpolation::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, interpolation)| interpolation)
            .ok_or_else(|| UnknownInterpolation(name.into()))
    }
}

/// Why a picture cannot be resized.
#[derive(Debug, thiserror::Error)]
#[error("cannot be resized to {width} x {height}: {reason}")]
pub struct ResizeError {
    width: u32,
    height: u32,
    reason: String,
}

/// (height, width) once the shorter side has `resolution` pixels; the longer side is rounded down, as torchvision
/// does.
pub fn shorter_side_to(resolution: u32, height: u32, width: u32) -> (u64, u64) {
    let longer = |long: u32, short: u32| u64::from(resolution) * u64::from(long) / u64::from(short.max(1));
    if width <= height {
        (longer(height, width), resolution.into())
    } else {
        (resolution.into(), longer(width, height))
    }
}

/// Resizes one picture after another, keeping its buffers.
#[derive(Debug, Default)]
pub struct Shrinker {
    resizer: Resizer,
}

impl Shrinker {
    /// `picture` with `height` x `width` pixels.
    ///
    /// # Errors
    /// Sizes of zero, or beyond the memory.
    pub fn resize(
        &mut self,
        picture: Rgb,
        height: u32,
        width: u32,
        interpolation: Interpolation,
    ) -> Result<Rgb, ResizeError> {
        if (height, width) == (picture.height, picture.width) {
            return Ok(picture);
        }
        let fail = |reason: String| ResizeError {
            width,
            height,
            reason,
        };
        let options = ResizeOptions::new().resize_alg(interpolation.algorithm());
        let Rgb {
            width: from_width,
            height: from_height,
            pixels,
        } = picture;
        let source = Image::from_vec_u8(from_width, from_height, pixels, PixelType::U8x3)
            .map_err(|error| fail(error.to_string()))?;
        // Two calls, one a direction: in one call the vertical pass would come first, and where filters overshoot
        // and are cut at 0 and 255 the order shows.
        let mut across = Image::new(width, from_height, PixelType::U8x3);
        self.resizer
            .resize(&source, &mut across, &options)
            .map_err(|error| fail(error.to_string()))?;
        let mut resized = Image::new(width, height, PixelType::U8x3);
        self.resizer
            .resize(&across, &mut resized, &options)
            .map_err(|error| fail(error.to_string()))?;
        Ok(Rgb {
            width,
            height,
            pixels: resized.into_vec(),
        })
    }
}
