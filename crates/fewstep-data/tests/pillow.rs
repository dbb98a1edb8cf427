//! Resizing against Pillow's own results (spec F18).

#![allow(clippy::unwrap_used)]

use fewstep_data::Interpolation;
use fewstep_data::picture::{PictureResizer, Rgb, shorter_side_to};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden/resize");

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
    let bytes = std::fs::read(format!("{GOLDEN}.safetensors")).unwrap();
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
