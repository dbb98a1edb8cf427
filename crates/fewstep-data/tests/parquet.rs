//! Parquet files as `datasets` writes them; pyarrow wrote the fixtures.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{batches, captions, png};
use fewstep_data::{Cause, DataConfig, Loader, Origin, PictureFolder};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/data/parquet");

/// What fuzzing found.
const FOUND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/regressions/rows");

/// A folder with a copy of one fixture.
fn folder_of(fixture: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("data");
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(
        Path::new(DATA).join(fixture),
        inside.join("train-00000-of-00001.parquet"),
    )
    .unwrap();
    folder
}

fn config(folder: &Path) -> DataConfig {
    DataConfig {
        origin: Origin::Folder(PictureFolder::new(folder)),
        resolution: 16,
        batch_size: 12,
        seed: 1,
        ..DataConfig::default()
    }
}

#[test]
fn structs_of_bytes_in_row_groups_are_read_once_an_epoch() {
    let folder = folder_of("pictures.parquet");
    let mut loader = Loader::new(config(folder.path())).unwrap();
    let batch = loader.next_batch().unwrap();
    let mut found = batch.captions.clone();
    found.sort_unstable();
    let wanted: Vec<String> = (0..12).map(|number| format!("caption {number:02}")).collect();
    assert_eq!(found, wanted);
    assert!(
        batch.keys.iter().all(|key| key.contains(".parquet: row ")),
        "{:?}",
        batch.keys
    );
    assert!(loader.drops().is_empty(), "{}", loader.drops());
    // The key's row is the caption's: pictures and captions stay together across row groups.
    for (key, caption) in batch.keys.iter().zip(&batch.captions) {
        let row: u32 = key.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(*caption, format!("caption {row:02}"));
    }
}

#[test]
fn plain_bytes_lists_of_captions_and_holes() {
    let folder = folder_of("holes.parquet");
    let mut loader = Loader::new(DataConfig {
        origin: Origin::Folder(PictureFolder {
            image_column: "jpg".into(),
            caption_column: "captions".into(),
            ..PictureFolder::new(folder.path())
        }),
        ..config(folder.path())
    })
    .unwrap();
    let found = captions(&batches(&mut loader, 4));
    for wanted in ["one", "two", "alone"] {
        assert!(found.iter().any(|caption| caption == wanted), "{found:?}");
    }
    for cause in [Cause::MissingImage, Cause::MissingCaption, Cause::BadPicture] {
        assert!(loader.drops().count(cause) > 0, "{cause:?}: {}", loader.drops());
    }
    assert!(
        loader.drops().to_string().contains("row 2 holds no bytes"),
        "{}",
        loader.drops()
    );
}

#[test]
fn a_missing_column_lists_those_there_are() {
    let folder = folder_of("holes.parquet");
    let message = |image: &str, caption: &str| {
        let origin = Origin::Folder(PictureFolder {
            image_column: image.into(),
            caption_column: caption.into(),
            ..PictureFolder::new(folder.path())
        });
        let config = DataConfig {
            origin,
            ..config(folder.path())
        };
        Loader::new(config).unwrap_err().to_string()
    };
    let text = message("image", "captions");
    assert!(
        text.contains("no column image; its columns are jpg, captions, score"),
        "{text}"
    );
    assert!(text.contains("--image_column"), "{text}");
    assert!(message("jpg", "text").contains("no column text"));
    let text = message("jpg", "score");
    assert!(
        text.contains("the column score") && text.contains("holds no texts"),
        "{text}"
    );
}

#[test]
fn damaged_files_are_errors_and_drops_but_never_hang() {
    let folder = folder_of("pictures.parquet");
    let file = folder.path().join("data/train-00000-of-00001.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in &mut bytes[100..400] {
        *byte ^= 0x5a;
    }
    std::fs::write(&file, &bytes).unwrap();
    let mut loader = Loader::new(config(folder.path())).unwrap();
    let _ = loader.next_batch();
    assert!(!loader.drops().is_empty());
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let text = Loader::new(config(folder.path())).unwrap_err().to_string();
    assert!(text.contains("is no parquet file that can be read"), "{text}");
}

#[test]
fn footers_that_claim_what_cannot_be_are_errors() {
    for (found, said) in [
        ("rows-beyond-counting", "more rows than can be counted"),
        ("fewer-than-no-rows", "a row group claims -1 rows"),
        (
            "more-columns-than-are-listed",
            "its footer claims a number of columns that it does not list",
        ),
    ] {
        let bytes = std::fs::read(Path::new(FOUND).join(found)).unwrap();
        for name in ["metadata.parquet", "pictures.parquet"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), &bytes).unwrap();
            let text = Loader::new(config(folder.path())).unwrap_err().to_string();
            assert!(
                text.contains(said) || name == "metadata.parquet",
                "{found}: {text}"
            );
        }
    }
}

#[test]
fn what_the_library_panics_on_is_an_error_or_a_drop() {
    let bytes = std::fs::read(Path::new(FOUND).join("no-dictionary-page")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pictures.parquet"), &bytes).unwrap();
    let text = Loader::new(config(folder.path()))
        .and_then(|mut loader| loader.next_batch().map(|_| ()))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("pictures.parquet") && text.contains("is damaged"),
        "{text}"
    );
}

#[test]
fn a_dictionary_holds_no_more_than_its_bytes() {
    let bytes = std::fs::read(Path::new(FOUND).join("dictionary-beyond-its-bytes")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("metadata.parquet"), &bytes).unwrap();
    let text = Loader::new(config(folder.path())).unwrap_err().to_string();
    assert!(
        text.contains("metadata.parquet") && text.contains("a dictionary says that it holds"),
        "{text}"
    );
}

#[test]
fn metadata_may_be_a_parquet_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    std::fs::copy(Path::new(DATA).join("metadata.parquet"), path("metadata.parquet")).unwrap();
    std::fs::create_dir(path("in")).unwrap();
    std::fs::write(path("a.png"), png(1)).unwrap();
    std::fs::write(path("in/b.png"), png(2)).unwrap();
    let mut loader = Loader::new(DataConfig {
        batch_size: 3,
        resolution: 8,
        ..config(folder.path())
    })
    .unwrap();
    let mut found = captions(&batches(&mut loader, 1));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, ["a", "b"]);
    assert!(
        loader
            .drops()
            .to_string()
            .contains("metadata.parquet, row 2 names no picture"),
        "{}",
        loader.drops()
    );
}

#[test]
fn no_damaged_byte_brings_the_loader_down() {
    for fixture in ["pictures.parquet", "holes.parquet"] {
        let folder = folder_of(fixture);
        let file = folder.path().join("data/train-00000-of-00001.parquet");
        let bytes = std::fs::read(&file).unwrap();
        let mut origin = PictureFolder::new(folder.path());
        if fixture == "holes.parquet" {
            origin.image_column = "jpg".into();
            origin.caption_column = "captions".into();
        }
        for place in (0..bytes.len()).step_by(31) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0xff;
            std::fs::write(&file, damaged).unwrap();
            let loader = Loader::new(DataConfig {
                origin: Origin::Folder(origin.clone()),
                batch_size: 2,
                ..config(folder.path())
            });
            // An error or a batch: what comes out matters less than that something does.
            if let Ok(mut loader) = loader {
                for _ in 0..6 {
                    let _ = loader.next_batch();
                }
            }
        }
    }
}
