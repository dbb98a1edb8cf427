//! Resizing as Pillow does it: filters that widen with the reduction, two passes, 8 bits between them. It knows nothing
//! of crops.

use fast_image_resize::images::Image;
use fast_image_resize::pixels::{U8x3, U16x3};
use fast_image_resize::{FilterType, PixelTrait, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::nearest::nearest;
use super::turn::{Turn, turned};
use super::{Interpolation, Rgb};

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
pub struct PictureResizer {
    resizer: Resizer,
}

impl PictureResizer {
    /// `picture` turned upright, then resized to `height` x `width`; not resized where it has that size already. It is
    /// within one level of Pillow's result; nearest and box are equal to it.
    ///
    /// # Errors
    /// Sizes of zero, or a picture whose pixels do not fit its size.
    pub fn upright(
        &mut self,
        picture: Rgb,
        turn: Turn,
        height: u32,
        width: u32,
        interpolation: Interpolation,
    ) -> Result<Rgb, ResizeError> {
        // What is reduced first is turned faster. But of two pixels at the same distance, these two filters take the
        // one on the left, which the turn would make the right.
        let turns_first = match interpolation {
            Interpolation::Nearest | Interpolation::NearestExact | Interpolation::Box => true,
            _ => u64::from(height) * u64::from(width) > picture.pixels.len() as u64 / 3,
        };
        if turns_first || turn == Turn::NONE {
            return self.resized(turned(picture, turn), Turn::NONE, (height, width), interpolation);
        }
        let resized = self.resized(picture, turn, turn.size((height, width)), interpolation)?;
        Ok(turned(resized, turn))
    }

    /// `picture`, which is upright, resized to `height` x `width`.
    ///
    /// # Errors
    /// As [`upright`](Self::upright).
    pub fn resize(
        &mut self,
        picture: Rgb,
        height: u32,
        width: u32,
        interpolation: Interpolation,
    ) -> Result<Rgb, ResizeError> {
        self.resized(picture, Turn::NONE, (height, width), interpolation)
    }

    /// Resizes a picture that `turn` will turn afterwards.
    fn resized(
        &mut self,
        picture: Rgb,
        turn: Turn,
        (height, width): (u32, u32),
        interpolation: Interpolation,
    ) -> Result<Rgb, ResizeError> {
        if (height, width) == (picture.height, picture.width) {
            return Ok(picture);
        }
        let filter = match interpolation {
            Interpolation::Nearest | Interpolation::NearestExact => {
                return Ok(nearest(&picture, height, width));
            }
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Box => FilterType::Box,
            Interpolation::Hamming => FilterType::Hamming,
            Interpolation::Lanczos => FilterType::Lanczos3,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        let (first, second) = passes(&picture, turn, (height, width));
        let fail = |reason: String| ResizeError {
            width,
            height,
            reason,
        };
        let depth = Depth::of(filter);
        let mut source = depth.read(picture).map_err(fail)?;
        // One call a pass: a filter's overshoot is cut at 0 and 255 in between, so the order of the passes shows.
        for (height, width) in [first, second] {
            let mut target = Image::new(width, height, depth.pixel_type());
            match depth {
                Depth::Eight => pass::<U8x3>(&mut self.resizer, &source, &mut target, &options),
                Depth::Sixteen => pass::<U16x3>(&mut self.resizer, &source, &mut target, &options),
            }
            .map_err(fail)?;
            depth.cut(&mut target);
            source = target;
        }
        Ok(Rgb {
            width,
            height,
            pixels: depth.write(source),
        })
    }
}

/// One pass, for one type of pixel: the resizer's own choice at run time would compile its code for all of them.
fn pass<P: PixelTrait>(
    resizer: &mut Resizer,
    source: &Image<'_>,
    target: &mut Image<'_>,
    options: &ResizeOptions,
) -> Result<(), String> {
    match (source.typed_image::<P>(), target.typed_image_mut::<P>()) {
        (Some(source), Some(mut target)) => resizer
            .resize_typed(&source, &mut target, options)
            .map_err(|error| error.to_string()),
        _ => Err("its pixels are of another type".to_owned()),
    }
}

/// (height, width) after the first and the second pass. Pillow goes across first, except, since version 13, where it
/// reduces a picture more than twice as tall as wide. For it, the picture is turned already.
fn passes(picture: &Rgb, turn: Turn, target: (u32, u32)) -> ((u32, u32), (u32, u32)) {
    let source = turn.size((picture.height, picture.width));
    let (height, width) = turn.size(target);
    let is_tall = u64::from(source.0) > 2 * u64::from(source.1);
    let first = if height < source.0 && is_tall {
        (height, source.1)
    } else {
        (source.0, width)
    };
    (turn.size(first), target)
}

/// How values are kept during a pass. The resizer's 8-bit path has short coefficients: its result is off by one now and
/// then, which filters with negative lobes can double in the second pass. Those take the 16-bit path, whose
/// coefficients are as long as Pillow's, at about two and a half times the cost.
#[derive(Debug, Clone, Copy)]
enum Depth {
    Eight,
    Sixteen,
}

impl Depth {
    fn of(filter: FilterType) -> Self {
        match filter {
            FilterType::CatmullRom | FilterType::Lanczos3 => Depth::Sixteen,
            _ => Depth::Eight,
        }
    }

    fn pixel_type(self) -> PixelType {
        match self {
            Depth::Eight => PixelType::U8x3,
            Depth::Sixteen => PixelType::U16x3,
        }
    }

    /// The same values, 0 to 255, at this depth.
    fn read(self, picture: Rgb) -> Result<Image<'static>, String> {
        let Rgb {
            width,
            height,
            pixels,
        } = picture;
        match self {
            Depth::Eight => {
                Image::from_vec_u8(width, height, pixels, PixelType::U8x3).map_err(|error| error.to_string())
            }
            Depth::Sixteen => {
                let mut image = Image::new(width, height, PixelType::U16x3);
                for (wide, &value) in image.buffer_mut().chunks_exact_mut(2).zip(&pixels) {
                    wide.copy_from_slice(&u16::from(value).to_ne_bytes());
                }
                Ok(image)
            }
        }
    }

    /// Cuts what overshot 255; at 0 the resizer cuts.
    fn cut(self, image: &mut Image<'_>) {
        if let Depth::Sixteen = self {
            for wide in image.buffer_mut().chunks_exact_mut(2) {
                let value = u16::from_ne_bytes([wide[0], wide[1]]).min(255);
                wide.copy_from_slice(&value.to_ne_bytes());
            }
        }
    }

    fn write(self, image: Image<'_>) -> Vec<u8> {
        match self {
            Depth::Eight => image.into_vec(),
            Depth::Sixteen => image
                .buffer()
                .chunks_exact(2)
                .map(|wide| u16::from_ne_bytes([wide[0], wide[1]]) as u8)
                .collect(),
        }
    }
}
