//! Crops, flips and the sizes that SDXL is told (spec F26).

#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, archive, batches, picture};
use fewstep_data::{Batch, Crop, DataConfig, Flip, Loader, PictureSizes, Wanted};
use image::ImageFormat;

const SIDE: u32 = 8;

/// One picture of `width` x `height`, whose shorter side has the resolution already: nothing is resized.
fn folder(width: u32, height: u32) -> Folder {
    Folder::of(&[archive(&[
        ("a.png", &picture(0, width, height, ImageFormat::Png)),
        ("a.txt", b"x"),
    ])])
}

fn config(folder: &Folder, crop: Crop, flip: Flip) -> DataConfig {
    DataConfig {
        resolution: SIDE,
        batch_size: 1,
        crop,
        flip,
        ..folder.config()
    }
}

/// Red and green of the first pixel tell where the crop begins: red is 7 a column and green 5 a row.
fn first_pixel(batch: &Batch) -> (u32, u32) {
    let byte = |level: f32| ((level * 0.5 + 0.5) * 255.0).round() as u32;
    let plane = (SIDE * SIDE) as usize;
    (byte(batch.pixels[plane]) / 5, byte(batch.pixels[0]) / 7)
}

/// (top, left) of the crop in the picture as stored, read from the pixels; and whether it is mirrored.
fn seen(batch: &Batch) -> ((u32, u32), bool) {
    let (top, first) = first_pixel(batch);
    let is_mirrored = batch.pixels[0] > batch.pixels[1];
    let left = if is_mirrored { first + 1 - SIDE } else { first };
    ((top, left), is_mirrored)
}

#[test]
fn the_sizes_tell_what_the_pixels_show() {
    for (width, height) in [(8, 8), (30, 8), (8, 30), (17, 8), (8, 9)] {
        let folder = folder(width, height);
        let mut loader = Loader::new(config(&folder, Crop::Random, Flip::Random)).unwrap();
        let (mut mirrored, mut places) = (0, std::collections::BTreeSet::new());
        for batch in batches(&mut loader, 200) {
            let ((top, left), is_mirrored) = seen(&batch);
            // In a mirrored picture the crop begins at the distance to what was the right edge.
            let left_seen = if is_mirrored { width - SIDE - left } else { left };
            assert_eq!(
                batch.sizes,
                [PictureSizes {
                    original: (height, width),
                    crop_top_left: (top, left_seen),
                    target: (SIDE, SIDE),
                }],
                "{width}x{height}"
            );
            assert_eq!(
                batch.sizes[0].time_ids(),
                [height, width, top, left_seen, SIDE, SIDE]
            );
            mirrored += u32::from(is_mirrored);
            places.insert((top, left));
        }
        assert!((60..140).contains(&mirrored), "{mirrored} of 200");
        let all = (width - SIDE + 1) * (height - SIDE + 1);
        assert_eq!(places.len() as u32, all, "{width}x{height}: every place is taken");
    }
}

#[test]
fn the_middle_is_torchvisions() {
    for (width, height, top, left) in [
        (30, 8, 0, 11),
        (8, 13, 2, 0),
        (8, 11, 2, 0),
        (8, 9, 0, 0),
        (8, 8, 0, 0),
    ] {
        let folder = folder(width, height);
        let mut loader = Loader::new(config(&folder, Crop::Center, Flip::Never)).unwrap();
        let batch = loader.next_batch().unwrap();
        assert_eq!(seen(&batch), ((top, left), false), "{width}x{height}");
        assert_eq!(batch.sizes[0].crop_top_left, (top, left));
    }
}

/// The numbers of SDXL's pipeline for pictures that are resized first, the mirrored ones with the place where
/// the same pixels stand in the mirrored picture.
#[test]
fn the_sizes_are_those_of_the_reference() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/golden/sizes.json"
    );
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let ids =
        |value: &serde_json::Value| -> Vec<u32> { value.as_array().unwrap().iter().map(number).collect() };
    for case in golden["cases"].as_array().unwrap() {
        let folder = folder(number(&case["width"]), number(&case["height"]));
        let config = |flip| DataConfig {
            resolution: number(&golden["resolution"]),
            ..config(&folder, Crop::Center, flip)
        };
        let stored = Loader::new(config(Flip::Never)).unwrap().next_batch().unwrap();
        assert_eq!(stored.sizes[0].time_ids()[..], ids(&case["center"]), "{case}");
        assert_eq!(
            stored.sizes[0].as_if_whole().time_ids()[..],
            ids(&case["fixed"]),
            "{case}"
        );
        let mut mirrored = 0;
        for batch in batches(&mut Loader::new(config(Flip::Random)).unwrap(), 20) {
            let is_mirrored = batch.pixels != stored.pixels;
            mirrored += u32::from(is_mirrored);
            let wanted = if is_mirrored { "center_mirrored" } else { "center" };
            assert_eq!(batch.sizes[0].time_ids()[..], ids(&case[wanted]), "{case}");
        }
        assert!((1..20).contains(&mirrored), "{mirrored} of 20");
    }
}

#[test]
fn small_pictures_are_dropped_or_else_enlarged_and_told_as_they_were() {
    let folder = folder(6, 3);
    let with = |min_size| DataConfig {
        wanted: Wanted {
            min_size,
            ..Wanted::default()
        },
        ..config(&folder, Crop::Center, Flip::Never)
    };
    let error = Loader::new(with(None))
        .unwrap()
        .next_batch()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a has 6 x 3 pixels, the shorter side must have 8") && error.contains("--min_size"),
        "{error}"
    );
    let batch = Loader::new(with(Some(3))).unwrap().next_batch().unwrap();
    assert_eq!(batch.pixels.len(), 3 * 8 * 8);
    assert!(batch.pixels.iter().all(|level| (-1.0..=1.0).contains(level)));
    // 3 x 6 becomes 8 x 16.
    assert_eq!(batch.sizes[0].time_ids(), [3, 6, 0, 4, 8, 8]);
}
