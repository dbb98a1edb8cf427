//! Files that lie about their size, or unfold without end: refused, in little memory. One test, for the allocator counts
//! what the whole process takes.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use common::{archive, picture};
use fewstep_data::picture::{DecodeError, decode};
use fewstep_data::sample::{Found, Samples};
use fewstep_data::{Cause, Limits, Wanted};
use image::ImageFormat;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MB: usize = 1 << 20;

/// What `work` gives, and the bytes it took at most.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

/// The checksum of a PNG's chunk.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// `png` with another size in its header.
fn with_size(mut png: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// A black PNG, and what `more` puts into its header.
fn png(width: u32, height: u32, more: impl FnOnce(&mut png::Info<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(width, height);
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    more(&mut info);
    let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer
        .write_image_data(&vec![0; 3 * (width * height) as usize])
        .unwrap();
    writer.finish().unwrap();
    bytes
}

/// A WebP of these chunks.
fn webp(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, stated, data) in chunks {
        body.extend(*name);
        body.extend(stated.to_le_bytes());
        body.extend(*data);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// The header of an extended WebP with EXIF data, whose canvas has this size.
fn canvas(width: u32, height: u32) -> Vec<u8> {
    let mut data = vec![0b1000, 0, 0, 0];
    data.extend(&(width - 1).to_le_bytes()[..3]);
    data.extend(&(height - 1).to_le_bytes()[..3]);
    data
}

/// A tar member that states `size` bytes and has none.
fn member(path: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn causes(reader: impl Read) -> Vec<Cause> {
    let wanted = Wanted {
        caption_key: Some("caption".into()),
        ..Wanted::default()
    };
    Samples::new("s.tar".into(), reader, Limits::default(), Arc::new(wanted))
        .map(|(_, found)| match found {
            Found::Dropped(dropped) => dropped.cause,
            Found::Sample(sample) => panic!("{}", sample.name()),
        })
        .collect()
}

fn pictures_that_lie() {
    let limits = Limits {
        max_pixels: 1_000_000,
        ..Limits::default()
    };
    let small = || png(10, 10, |_| {});
    let jpeg = |width: u16, height: u16| {
        let mut bytes = picture(1, 40, 30, ImageFormat::Jpeg);
        let start = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[start + 5..start + 7].copy_from_slice(&height.to_be_bytes());
        bytes[start + 7..start + 9].copy_from_slice(&width.to_be_bytes());
        bytes
    };
    let lossless = |width: u32, height: u32| {
        let size = (width - 1) | (height - 1) << 14;
        [&[0x2f][..], &size.to_le_bytes(), &[0; 32]].concat()
    };
    let frame = lossless(16_383, 16_383);
    let whole = canvas(16_384, 16_384);
    let tiny = canvas(10, 10);
    let exif: &[u8] = b"II*\0";
    for (case, bytes, most) in [
        (
            "a PNG of 3.6 billion pixels",
            with_size(small(), 60_000, 60_000),
            MB,
        ),
        ("a PNG 100,000 pixels wide", with_size(small(), 100_000, 5), MB),
        (
            "a PNG that holds less than it states",
            with_size(small(), 1000, 1000),
            10 * MB,
        ),
        ("a JPEG of 4.3 billion pixels", jpeg(65_535, 65_535), MB),
        ("a WebP of 268 million pixels", webp(&[(b"VP8X", 10, &whole)]), MB),
        (
            "a lossless WebP of 268 million pixels",
            webp(&[(b"VP8L", 37, &frame)]),
            MB,
        ),
        (
            "a WebP whose frame is larger than its canvas",
            webp(&[(b"VP8X", 10, &tiny), (b"VP8L", 37, &frame)]),
            MB,
        ),
        (
            "a WebP whose EXIF data state 4 GB",
            webp(&[(b"VP8X", 10, &tiny), (b"EXIF", u32::MAX - 9, exif)]),
            MB,
        ),
    ] {
        let (result, peak) = measured(|| decode(&bytes, &limits));
        assert!(result.is_err(), "{case}");
        assert!(peak < most, "{case} took {peak} bytes");
    }
    // This one has its end mark where its data end, which decoders take for a picture that is grey from there on.
    let (_, peak) = measured(|| decode(&jpeg(1000, 1000), &limits));
    assert!(peak < 10 * MB, "{peak}");
    let wide = decode(&with_size(small(), 100_000, 5), &limits).unwrap_err();
    assert!(matches!(wide, DecodeError::TooLong { .. }), "{wide}");
}

fn pictures_that_unfold() {
    let limits = Limits {
        max_pixels: 1_000_000,
        ..Limits::default()
    };
    // More rows than the header states.
    let rows = with_size(png(1000, 20_000, |_| {}), 1000, 1000);
    let profile = png(10, 10, |info| info.icc_profile = Some(vec![0; 24 * MB].into()));
    let text = png(10, 10, |info| {
        let text = png::text_metadata::ZTXtChunk::new("Comment", "x".repeat(24 * MB));
        info.compressed_latin1_text.push(text);
    });
    for (case, bytes) in [("rows", rows), ("a profile", profile), ("a text", text)] {
        assert!(bytes.len() < MB, "{case}: {}", bytes.len());
        let (_, peak) = measured(|| decode(&bytes, &limits));
        assert!(peak < 10 * MB, "{case} took {peak} bytes");
    }
}

fn archives_that_lie() {
    let gigabytes = 10 << 30;
    for (case, bytes, cause) in [
        (
            "a picture of 10 GB",
            member("a.jpg", tar::EntryType::Regular, gigabytes),
            Cause::BrokenShard,
        ),
        (
            "a sparse one",
            member("a.jpg", tar::EntryType::GNUSparse, gigabytes),
            Cause::BrokenShard,
        ),
        (
            "a name of 10 GB",
            member("a.jpg", tar::EntryType::GNULongName, gigabytes),
            Cause::BrokenShard,
        ),
        (
            "a picture within the limit",
            member("a.jpg", tar::EntryType::Regular, 100 << 20),
            Cause::BrokenShard,
        ),
        (
            "a JSON without an end",
            archive(&[("a.jpg", b"A"), ("a.json", &[b'['; MB])]),
            Cause::BadJson,
        ),
    ] {
        let (causes, peak) = measured(|| causes(&bytes[..]));
        assert_eq!(causes, [cause], "{case}");
        assert!(peak < 4 * MB, "{case} took {peak} bytes");
    }
    // One that does have the bytes it states: passed over, not read.
    let size = 200 << 20;
    let header = member("a.jpg", tar::EntryType::Regular, size);
    let reader = Cursor::new(header).chain(io::repeat(0).take(size));
    let (causes, peak) = measured(|| causes(reader));
    assert_eq!(causes, [Cause::OversizedMember]);
    assert!(peak < MB, "{peak}");
}

/// The most that decoding takes, for what is within the limits: what docs/data.md says.
fn decoding_is_bounded() {
    let (width, height) = (1000, 1000);
    let pixels = (width * height) as usize;
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let bytes = picture(1, width, height, format);
        let (result, peak) = measured(|| decode(&bytes, &Limits::default()));
        assert!(result.is_ok());
        assert!(peak < 12 * pixels, "{format:?}: {} bytes a pixel", peak / pixels);
    }
}

#[test]
fn what_lies_or_unfolds_is_refused_in_little_memory() {
    pictures_that_lie();
    pictures_that_unfold();
    archives_that_lie();
    decoding_is_bounded();
}
