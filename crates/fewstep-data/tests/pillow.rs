//! Decoding, turning and resizing against Pillow's own results (spec F18).

#![allow(clippy::unwrap_used)]

use fewstep_data::picture::{PictureResizer, Rgb, decode, open, shorter_side_to};
use fewstep_data::{Interpolation, Limits};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden");

fn rgb(tensor: &TensorView<'_>) -> Rgb {
    let [height, width, 3] = *tensor.shape() else {
        panic!("{:?}", tensor.shape())
    };
    Rgb {
        width: width as u32,
        height: height as u32,
        pixels: tensor.data().to_vec(),
    }
}

#[test]
fn every_filter_is_within_one_level_of_pillow() {
    let bytes = std::fs::read(format!("{GOLDEN}/resize.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut resizer = PictureResizer::default();
    let mut compared = 0;
    for (name, wanted) in tensors.tensors() {
        let Some(case) = name.strip_prefix("out.") else {
            continue;
        };
        let [picture, resolution, filter]: [&str; 3] =
            case.split('.').collect::<Vec<_>>().try_into().unwrap();
        let source = rgb(&tensors.tensor(&format!("in.{picture}")).unwrap());
        let wanted = rgb(&wanted);
        let (height, width) = shorter_side_to(resolution.parse().unwrap(), source.height, source.width);
        assert_eq!(
            (height, width),
            (wanted.height.into(), wanted.width.into()),
            "{case}"
        );
        let names: &[&str] = if filter == "nearest" {
            &["nearest", "nearest_exact"]
        } else {
            &[filter]
        };
        for name in names {
            let interpolation: Interpolation = name.parse().unwrap();
            let ours = resizer
                .resize(source.clone(), height as u32, width as u32, interpolation)
                .unwrap();
            let pairs = ours.pixels.iter().zip(&wanted.pixels);
            let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            let allowed = match interpolation {
                Interpolation::Nearest | Interpolation::NearestExact | Interpolation::Box => 0,
                _ => 1,
            };
            assert!(worst <= allowed, "{case} as {name}: off by {worst} levels");
            assert_eq!(ours.pixels.len(), wanted.pixels.len());
            compared += 1;
        }
    }
    assert!(compared >= 42, "{compared}");
}

/// The largest difference of two pictures of one size.
fn difference(ours: &Rgb, wanted: &Rgb, case: &str) -> u8 {
    assert_eq!((ours.width, ours.height), (wanted.width, wanted.height), "{case}");
    let pairs = ours.pixels.iter().zip(&wanted.pixels);
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// Levels by which a file may differ from Pillow's picture. The transform of a JPEG may round each channel by one level;
/// in YCC that is one in luma and up to 1.772 in chroma, and their sum is rounded again.
fn allowed(case: &str) -> u8 {
    match case {
        "jpeg-grey" | "jpeg-rgb" | "jpeg-cmyk" => 1,
        jpeg if jpeg.starts_with("jpeg") => 3,
        _ => 0,
    }
}

#[test]
fn every_kind_of_picture_is_what_pillow_shows() {
    let bytes = std::fs::read(format!("{GOLDEN}/pictures.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut resizer = PictureResizer::default();
    let mut compared = 0;
    for (name, file) in tensors.tensors() {
        let Some(case) = name.strip_prefix("in.") else {
            continue;
        };
        let wanted = rgb(&tensors.tensor(&format!("out.{case}")).unwrap());
        let ours = decode(file.data(), &Limits::default()).unwrap();
        let (off, allowed) = (difference(&ours, &wanted, case), allowed(case));
        assert!(off <= allowed, "{case}: off by {off} levels");
        compared += 1;
        for (filter, interpolation) in [("bilinear", Interpolation::Bilinear), ("box", Interpolation::Box)] {
            let Ok(wanted) = tensors.tensor(&format!("out.{case}.{filter}")) else {
                continue;
            };
            let wanted = rgb(&wanted);
            let opened = open(file.data(), &Limits::default()).unwrap();
            let turn = opened.turn();
            let ours = resizer
                .upright(
                    opened.decode().unwrap(),
                    turn,
                    wanted.height,
                    wanted.width,
                    interpolation,
                )
                .unwrap();
            // What the decoders differ in is averaged away.
            let off = difference(&ours, &wanted, case);
            assert!(off <= 1, "{case} {filter}: off by {off} levels");
        }
    }
    assert_eq!(compared, 33);
}
