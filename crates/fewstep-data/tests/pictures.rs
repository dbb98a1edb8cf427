//! Decoding: every kind of picture becomes RGB, and what is broken or too large is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Cursor;

use common::picture;
use fewstep_data::Limits;
use fewstep_data::picture::{DecodeError, Rgb, decode, shorter_side_to};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ExtendedColorType, GrayImage, ImageBuffer, ImageFormat, Luma, Rgba, RgbaImage};

/// No more than a million pixels.
fn limits() -> Limits {
    at_most(1_000_000)
}

fn at_most(max_pixels: u64) -> Limits {
    Limits {
        max_pixels,
        ..Limits::default()
    }
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(bytes: &[u8]) -> Rgb {
    decode(bytes, &limits()).unwrap()
}

#[test]
fn lossless_pictures_keep_every_pixel() {
    let wanted: Vec<u8> = (0..5u32)
        .flat_map(|y| (0..9u32).flat_map(move |x| [(x * 7) as u8, (y * 5) as u8, 33]))
        .collect();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let Rgb {
            width,
            height,
            pixels,
        } = decoded(&picture(3, 9, 5, format));
        assert_eq!((width, height), (9, 5));
        assert_eq!(pixels, wanted, "{format:?}");
    }
}

#[test]
fn a_jpeg_is_close_to_its_picture() {
    let smooth = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, 100]));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .encode(&smooth, 40, 30, ExtendedColorType::Rgb8)
        .unwrap();
    let picture = decoded(&bytes);
    assert_eq!((picture.width, picture.height), (40, 30));
    let worst = picture
        .pixels
        .iter()
        .zip(smooth.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst.unwrap() < 16, "{worst:?}");
}

#[test]
fn grey_becomes_three_equal_channels() {
    let grey = GrayImage::from_fn(16, 16, |x, y| Luma([(x * 10 + y) as u8]));
    let picture = decoded(&encoded(&grey.clone().into(), ImageFormat::Png));
    assert!(
        picture
            .pixels
            .chunks(3)
            .zip(grey.as_raw())
            .all(|(rgb, &grey)| rgb == [grey; 3])
    );
    let picture = decoded(&encoded(&grey.into(), ImageFormat::Jpeg));
    assert_eq!(picture.pixels.len(), 16 * 16 * 3);
    assert!(
        picture
            .pixels
            .chunks(3)
            .all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2])
    );
}

#[test]
fn of_sixteen_bits_the_upper_eight_are_taken() {
    let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_fn(2, 1, |x, _| Luma([0x7fff * x as u16 + 0xff]));
    assert_eq!(
        decoded(&encoded(&deep.into(), ImageFormat::Png)).pixels,
        [0, 0, 0, 0x80, 0x80, 0x80]
    );
}

#[test]
fn transparent_pixels_are_laid_onto_white() {
    let colours = [[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]];
    let picture = RgbaImage::from_fn(3, 1, |x, _| Rgba(colours[x as usize]));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let pixels = decoded(&encoded(&picture.clone().into(), format)).pixels;
        assert_eq!(pixels[..3], [200, 100, 0]);
        assert_eq!(pixels[3..6], [255, 255, 255]);
        // A fifth of the colour, four fifths of white.
        assert_eq!(pixels[6..], [244, 224, 204], "{format:?}");
    }
}

#[test]
fn the_content_decides_and_not_a_name() {
    assert!(matches!(decode(b"", &limits()), Err(DecodeError::Format)));
    assert!(matches!(decode(b"<html>", &limits()), Err(DecodeError::Format)));
    assert!(matches!(
        decode(b"GIF89a\x01\x00\x01\x00", &limits()),
        Err(DecodeError::Format)
    ));
}

#[test]
fn a_cut_picture_is_no_picture() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let bytes = picture(1, 200, 150, format);
        for percent in [1, 10, 50, 90] {
            let cut = decode(&bytes[..bytes.len() * percent / 100], &limits());
            assert!(cut.is_err(), "{format:?} cut to {percent} %");
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_stated_size() {
    let bytes = picture(1, 300, 200, ImageFormat::Png);
    assert!(matches!(
        decode(&bytes, &at_most(59_999)),
        Err(DecodeError::TooLarge {
            width: 300,
            height: 200,
            limit: 59_999
        })
    ));
    assert!(decode(&bytes, &at_most(60_000)).is_ok());
    for format in [ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = picture(1, 300, 200, format);
        assert!(
            matches!(
                decode(&bytes, &at_most(59_999)),
                Err(DecodeError::TooLarge { .. })
            ),
            "{format:?}"
        );
    }
    // A PNG header of 2 billion pixels square with nothing behind it.
    let mut bomb = bytes;
    bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    assert!(decode(&bomb, &limits()).is_err());
}

#[test]
fn the_shorter_side_meets_the_resolution() {
    assert_eq!(shorter_side_to(512, 768, 1024), (512, 682));
    assert_eq!(shorter_side_to(512, 1024, 768), (682, 512));
    assert_eq!(shorter_side_to(512, 100, 100), (512, 512));
    assert_eq!(shorter_side_to(512, 1, 65_535), (512, 33_553_920));
}
