//! Encoded bytes to 8-bit RGB, bounded in memory. It knows nothing of what the picture is for.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, Limits};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Why bytes are no picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Neither JPEG nor PNG nor WebP, whatever the file's name.
    #[error("is neither a JPEG, a PNG nor a WebP picture")]
    Format,
    /// The decoder's complaint.
    #[error("cannot be decoded: {0}")]
    Broken(String),
    /// More pixels than allowed.
    #[error("has {width} x {height} pixels, the limit is {limit} in all")]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Pixels allowed.
        limit: u64,
    },
}

/// A picture of 8-bit RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `[height, width, 3]`, row-major.
    pub pixels: Vec<u8>,
}

/// Decodes a JPEG, PNG or WebP picture, told apart by its content. Grey and palette become RGB, CMYK is converted
/// without a profile as Pillow does, transparent pixels are laid onto white, 16-bit is rounded to 8. Of an animation it
/// takes the first frame.
///
/// # Errors
/// What is damaged or cut off is an error, not a picture with grey parts. The size is checked before memory is taken.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg(bytes, max_pixels),
        Ok(ImageFormat::Png) => {
            let decoder = image::codecs::png::PngDecoder::with_limits(Cursor::new(bytes), memory(max_pixels));
            other(decoder.map_err(broken)?, max_pixels)
        }
        Ok(ImageFormat::WebP) => {
            let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes));
            other(decoder.map_err(broken)?, max_pixels)
        }
        _ => Err(DecodeError::Format),
    }
}

fn broken(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Broken(error.to_string())
}

fn check_size(width: u32, height: u32, limit: u64) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Broken("it has no pixels".into()));
    }
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooLarge { width, height, limit });
    }
    Ok(())
}

/// A bound on what a decoder may allocate: RGBA with 16 bits, and a quarter of that to work in.
fn memory(max_pixels: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(max_pixels.saturating_mul(10));
    limits
}

/// The decoder is strict: otherwise it fills what is missing with grey.
fn jpeg(bytes: &[u8], max_pixels: u64) -> Result<Rgb, DecodeError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(broken)?;
    let (width, height) = decoder
        .dimensions()
        .and_then(|(width, height)| Some((u32::try_from(width).ok()?, u32::try_from(height).ok()?)))
        .ok_or_else(|| DecodeError::Broken("it states no size".into()))?;
    check_size(width, height, max_pixels)?;
    let pixels = decoder.decode().map_err(broken)?;
    if pixels.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(DecodeError::Broken(
            "its channels cannot be turned into RGB".into(),
        ));
    }
    Ok(Rgb {
        width,
        height,
        pixels,
    })
}

fn other(mut decoder: impl ImageDecoder, max_pixels: u64) -> Result<Rgb, DecodeError> {
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    decoder.set_limits(memory(max_pixels)).map_err(broken)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    let pixels = if picture.color().has_alpha() {
        onto_white(&picture.into_rgba8())
    } else {
        picture.into_rgb8().into_raw()
    };
    Ok(Rgb {
        width,
        height,
        pixels,
    })
}

/// Lays RGBA pixels onto a white ground.
fn onto_white(rgba: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        let mix = |channel: u8| ((u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        rgb.extend_from_slice(&[mix(pixel[0]), mix(pixel[1]), mix(pixel[2])]);
    }
    rgb
}
