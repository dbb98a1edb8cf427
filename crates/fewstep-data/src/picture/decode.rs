//! Encoded bytes to 8-bit RGB, bounded in memory. It knows nothing of what the picture is for.

use std::io::Cursor;

use image::ImageFormat;
use image_webp::WebPDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::turn::{self, Turn};
use crate::config::Limits;

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
    /// A longer side than allowed.
    #[error("has {width} x {height} pixels, the limit is {limit} a side")]
    TooLong {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Pixels allowed on a side.
        limit: u32,
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

/// A picture whose header has been read, and whose size is within the limits. Nothing is decoded yet.
pub struct Opened<'a> {
    decoder: Decoder<'a>,
    /// (height, width) as stored.
    stored: (u32, u32),
    turn: Turn,
}

enum Decoder<'a> {
    Jpeg(Box<zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>>),
    Png(Box<png::Reader<Cursor<&'a [u8]>>>),
    WebP(Box<WebPDecoder<Cursor<&'a [u8]>>>),
}

/// What a PNG's decoder may take besides the picture: some rows of the longest there are.
const PNG_WORKING_BYTES: usize = 16 << 20;

/// Reads the header of a JPEG, PNG or WebP picture, told apart by its content.
///
/// # Errors
/// It is none of them, its header is damaged, or it is too large.
pub fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Opened<'a>, DecodeError> {
    let (decoder, stored, turn) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg(bytes)?,
        Ok(ImageFormat::Png) => png(bytes)?,
        Ok(ImageFormat::WebP) => webp(bytes)?,
        _ => return Err(DecodeError::Format),
    };
    check_size(stored, limits)?;
    Ok(Opened {
        decoder,
        stored,
        turn,
    })
}

/// Decodes a JPEG, PNG or WebP picture, and turns it upright as its EXIF data say. Grey and palette become RGB, CMYK is
/// converted without a profile as Pillow does, transparent pixels are laid onto white, of 16 bits the upper 8 are
/// taken. Colour profiles are not looked at, as Pillow does not. Of an animation it takes the first frame.
///
/// # Errors
/// What is damaged or cut off is an error, not a picture with grey parts; but a JPEG whose end mark comes early is grey
/// from there on, as Pillow shows it. The size is checked before memory is taken.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Rgb, DecodeError> {
    let opened = open(bytes, limits)?;
    let turn = opened.turn;
    Ok(turn::turned(opened.decode()?, turn))
}

impl Opened<'_> {
    /// (height, width) of the picture turned upright.
    pub fn size(&self) -> (u32, u32) {
        self.turn.size(self.stored)
    }

    /// What turns it upright once it is decoded.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// The picture as stored, not turned.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(self) -> Result<Rgb, DecodeError> {
        let (height, width) = self.stored;
        let pixels = match self.decoder {
            Decoder::Jpeg(mut decoder) => decoder.decode().map_err(broken)?,
            Decoder::Png(mut decoder) => {
                let size = decoder.output_buffer_size();
                let mut pixels = vec![0; size.ok_or_else(|| broken("it is too large"))?];
                let frame = decoder.next_frame(&mut pixels).map_err(broken)?;
                match frame.color_type.samples() {
                    1 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
                    2 => onto_white::<2>(&pixels),
                    3 => pixels,
                    _ => onto_white::<4>(&pixels),
                }
            }
            Decoder::WebP(mut decoder) => {
                let size = decoder.output_buffer_size();
                let mut pixels = vec![0; size.ok_or_else(|| broken("it is too large"))?];
                decoder.read_image(&mut pixels).map_err(broken)?;
                match decoder.has_alpha() {
                    true => onto_white::<4>(&pixels),
                    false => pixels,
                }
            }
        };
        if pixels.len() as u64 != 3 * u64::from(width) * u64::from(height) {
            return Err(broken("its channels cannot be turned into RGB"));
        }
        Ok(Rgb {
            width,
            height,
            pixels,
        })
    }
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("stored", &self.stored)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

fn broken(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Broken(error.to_string())
}

fn check_size((height, width): (u32, u32), limits: &Limits) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(broken("it has no pixels"));
    }
    if width.max(height) > limits.max_side {
        return Err(DecodeError::TooLong {
            width,
            height,
            limit: limits.max_side,
        });
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooLarge {
            width,
            height,
            limit: limits.max_pixels,
        });
    }
    Ok(())
}

/// A decoder, the size as stored, and what turns it upright.
type Header<'a> = (Decoder<'a>, (u32, u32), Turn);

/// The decoder is strict: otherwise it fills what is missing with grey.
fn jpeg(bytes: &[u8]) -> Result<Header<'_>, DecodeError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(broken)?;
    let size = decoder
        .dimensions()
        .and_then(|(width, height)| Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?)))
        .ok_or_else(|| broken("it states no size"))?;
    let turn = Turn::of(decoder.exif().map(Vec::as_slice));
    Ok((Decoder::Jpeg(Box::new(decoder)), size, turn))
}

fn png(bytes: &[u8]) -> Result<Header<'_>, DecodeError> {
    let limits = png::Limits {
        bytes: PNG_WORKING_BYTES,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Nobody asks for these, and they may unfold to whatever size.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    let (size, turn) = ((info.height, info.width), Turn::of(info.exif_metadata.as_deref()));
    Ok((Decoder::Png(Box::new(reader)), size, turn))
}

fn webp(bytes: &[u8]) -> Result<Header<'_>, DecodeError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    // No chunk is larger than the file, whatever it says.
    decoder.set_memory_limit(bytes.len());
    let (width, height) = decoder.dimensions();
    let exif = decoder.exif_metadata().ok().flatten();
    let turn = Turn::of(exif.as_deref());
    Ok((Decoder::WebP(Box::new(decoder)), (height, width), turn))
}

/// Lays pixels of grey or RGB, each followed by its opacity, onto a white ground.
fn onto_white<const CHANNELS: usize>(pixels: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(pixels.len() / CHANNELS * 3);
    for pixel in pixels.chunks_exact(CHANNELS) {
        let alpha = u32::from(pixel[CHANNELS - 1]);
        let mix = |channel: u8| ((u32::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        match CHANNELS {
            2 => rgb.extend_from_slice(&[mix(pixel[0]); 3]),
            _ => rgb.extend(pixel[..3].iter().map(|&channel| mix(channel))),
        }
    }
    rgb
}
