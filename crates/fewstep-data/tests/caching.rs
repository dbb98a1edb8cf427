//! A loader with a cache of latents: what is known is not decoded, and nothing else changes.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Folder, archive, batches, picture};
use fewstep_data::cache::{Blob, Dtype, Key, Latents, Store, Walk};
use fewstep_data::{Batch, Crop, DataConfig, Flip, Interpolation, LatentsOf, Loader, Prepared};
use image::ImageFormat;

const SIDE: u32 = 8;

fn config(folder: &Folder) -> DataConfig {
    DataConfig {
        resolution: SIDE,
        batch_size: 2,
        crop: Crop::OneOf(2),
        flip: Flip::Random,
        ..folder.config()
    }
}

/// Stands for latents: the first numbers of the pixels.
fn blob(pixels: &[f32]) -> Blob {
    Blob {
        dtype: Dtype::F32,
        shape: vec![4],
        bytes: pixels[..4].iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}

/// How many squares were missing.
fn fill(config: &DataConfig, store: &Arc<Store>, vae: &str) -> usize {
    let latents = Latents::new(Arc::clone(store), Key::of(vae.as_bytes()));
    let mut made = 0;
    for missing in Walk::new(config.clone(), latents).unwrap() {
        let missing = missing.unwrap();
        for (key, pixels) in missing.squares() {
            store.put(key, blob(&pixels));
            made += 1;
        }
    }
    made
}

fn with(config: &DataConfig, store: &Arc<Store>) -> DataConfig {
    DataConfig {
        latents: Some(Latents::new(Arc::clone(store), Key::of(b"vae"))),
        ..config.clone()
    }
}

#[test]
fn a_loader_delivers_what_is_known_instead_of_pixels() {
    let folder = Folder::sound();
    let cache = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(cache.path(), None).unwrap());
    let plain = config(&folder);
    assert!(fill(&plain, &store, "vae") > 20);
    let without = batches(&mut Loader::new(plain.clone()).unwrap(), 30);
    for num_workers in [0, 2] {
        let config = DataConfig {
            num_workers,
            ..with(&plain, &store)
        };
        for (known, without) in batches(&mut Loader::new(config).unwrap(), 30)
            .iter()
            .zip(&without)
        {
            assert!(known.pixels.is_empty());
            let numbers = 3 * (SIDE as usize).pow(2);
            let wanted = without
                .pixels
                .chunks(numbers)
                .map(|pixels| LatentsOf::Known(Arc::new(blob(pixels))));
            assert!(known.latents.iter().cloned().eq(wanted));
            let rest = |batch: &Batch| (batch.captions.clone(), batch.sizes.clone(), batch.keys.clone());
            assert_eq!(rest(known), rest(without));
        }
    }
}

#[test]
fn a_damaged_cache_is_made_up_for_by_decoding() {
    let folder = Folder::sound();
    let cache = tempfile::tempdir().unwrap();
    let plain = config(&folder);
    let store = Arc::new(Store::open(cache.path(), None).unwrap());
    fill(&plain, &store, "vae");
    store.flush();
    // Behind the back of the store, which has listed its entries already.
    for file in std::fs::read_dir(cache.path()).unwrap() {
        let path = file.unwrap().path();
        let zeros = vec![0; std::fs::metadata(&path).unwrap().len() as usize];
        std::fs::write(path, zeros).unwrap();
    }
    let without = batches(&mut Loader::new(plain.clone()).unwrap(), 10);
    let mended = batches(&mut Loader::new(with(&plain, &store)).unwrap(), 10);
    for (mended, without) in mended.iter().zip(&without) {
        assert_eq!(mended.pixels, without.pixels);
        assert!(
            mended
                .latents
                .iter()
                .all(|of| matches!(of, LatentsOf::Pixels(Some(_))))
        );
    }
    assert_eq!(store.notes().len(), 1);
}

#[test]
fn whatever_shapes_a_square_is_part_of_its_key() {
    let folder = |number| {
        Folder::of(&[archive(&[
            ("a.png", &picture(number, 40, 16, ImageFormat::Png)),
            ("a.txt", b"x"),
        ])])
    };
    let (one, other) = (folder(1), folder(2));
    let cache = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(cache.path(), None).unwrap());
    let base = DataConfig {
        crop: Crop::Center,
        flip: Flip::Never,
        batch_size: 1,
        ..config(&one)
    };
    assert_eq!(fill(&base, &store, "vae"), 1);
    let cases = [
        ("vae 2", base.clone()),
        (
            "vae",
            DataConfig {
                resolution: 9,
                ..base.clone()
            },
        ),
        (
            "vae",
            DataConfig {
                interpolation: Interpolation::Box,
                ..base.clone()
            },
        ),
        (
            "vae",
            DataConfig {
                flip: Flip::Random,
                ..base.clone()
            },
        ),
        (
            "vae",
            DataConfig {
                crop: Crop::OneOf(1),
                ..base.clone()
            },
        ),
        (
            "vae",
            DataConfig {
                origin: other.config().origin,
                ..base.clone()
            },
        ),
    ];
    for (vae, config) in cases {
        assert_eq!(fill(&config, &store, vae), 1, "{vae} {config:?}");
        assert_eq!(fill(&config, &store, vae), 0);
    }
    assert_eq!(fill(&base, &store, "vae"), 0);
}

#[test]
fn the_pictures_of_a_folder_are_counted_ahead() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(format!("{name}.png")), common::png(1)).unwrap();
        std::fs::write(folder.path().join(format!("{name}.txt")), name).unwrap();
    }
    let origin = fewstep_data::Origin::Folder(fewstep_data::PictureFolder::new(folder.path()));
    let config = DataConfig {
        origin,
        ..DataConfig::default()
    };
    assert_eq!(Prepared::new(config).unwrap().samples(), Some(2));
    assert_eq!(Prepared::new(Folder::sound().config()).unwrap().samples(), None);
}

#[test]
fn random_crops_are_refused() {
    let folder = Folder::sound();
    let cache = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(cache.path(), None).unwrap());
    let random = DataConfig {
        crop: Crop::Random,
        ..with(&config(&folder), &store)
    };
    let error = Loader::new(random).unwrap_err().to_string();
    assert!(error.contains("random crops"), "{error}");
}
