//! Packing a folder into shards: the same captions come out, and nothing half-done takes the place of what is whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{batches, captions, png};
use fewstep_data::inspect::Inspection;
use fewstep_data::pack::{PackConfig, PackError, Packed, pack};
use fewstep_data::source::Access;
use fewstep_data::tar::Members;
use fewstep_data::{Cause, DataConfig, Limits, Loader, Origin, PictureFolder, Wanted, spec};
use tempfile::TempDir;

/// Seven pictures with the captions "0" to "6", and one without a caption.
fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..7 {
        std::fs::write(folder.path().join(format!("a.b{number}.png")), png(number)).unwrap();
        std::fs::write(folder.path().join(format!("a.b{number}.txt")), number.to_string()).unwrap();
    }
    std::fs::write(folder.path().join("x.png"), png(9)).unwrap();
    folder
}

fn config(folder: &Path, out: &Path) -> PackConfig {
    PackConfig {
        folder: PictureFolder::new(folder),
        out: out.into(),
        shard_size: 3,
        seed: None,
        limits: Limits::default(),
    }
}

fn packed(folder: &Path, out: &Path) -> Result<Packed, PackError> {
    pack(&config(folder, out), &mut |_| {})
}

/// The members of a shard.
fn members(shard: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut walk = Members::new(std::fs::File::open(shard).unwrap());
    let mut members = BTreeMap::new();
    while let Some(member) = walk.advance().unwrap() {
        members.insert(member.path, walk.read().unwrap());
    }
    members
}

fn epoch(origin: Origin) -> Vec<String> {
    let config = DataConfig {
        origin,
        resolution: 8,
        batch_size: 7,
        ..DataConfig::default()
    };
    let mut found = captions(&batches(&mut Loader::new(config).unwrap(), 1));
    found.sort_unstable();
    found
}

#[test]
fn shards_hold_what_the_folder_held() {
    let (folder, place) = (pictures(), tempfile::tempdir().unwrap());
    let out = place.path().join("shards");
    let mut seen = 0;
    let packed = pack(&config(folder.path(), &out), &mut |packed| seen = packed.samples).unwrap();
    assert_eq!((packed.shards, packed.samples, seen), (3, 7, 7));
    assert_eq!(
        (packed.drops.total(), packed.drops.count(Cause::MissingCaption)),
        (1, 1)
    );
    let second = members(&out.join("00001.tar"));
    assert_eq!(second.len(), 9);
    assert_eq!(second["000000004.png"], png(4));
    assert_eq!(second["000000004.txt"], b"4");
    let about: serde_json::Value = serde_json::from_slice(&second["000000004.json"]).unwrap();
    assert_eq!(
        (about["width"].as_u64(), about["height"].as_u64()),
        (Some(24), Some(16))
    );
    assert_eq!(about["file"], "a.b4.png");
    assert_eq!(about["caption"], "4");
    assert_eq!(
        epoch(Origin::Shards(vec![out.display().to_string()])),
        epoch(Origin::Folder(PictureFolder::new(folder.path())))
    );
    assert!(!place.path().join("shards.packing").exists());
}

#[test]
fn of_several_captions_the_text_has_the_first_and_the_json_all() {
    let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("a.png"), png(1)).unwrap();
    let line = r#"{"file_name": "a.png", "text": ["a fox", "a red fox", "a fox in snow"]}"#;
    std::fs::write(folder.path().join("metadata.jsonl"), line).unwrap();
    let out = place.path().join("shards");
    let packed = packed(folder.path(), &out).unwrap();
    assert_eq!((packed.samples, packed.further_captions), (1, 2));
    let members = members(&out.join("00000.tar"));
    assert_eq!(members["000000000.txt"], b"a fox");
    let about: serde_json::Value = serde_json::from_slice(&members["000000000.json"]).unwrap();
    assert_eq!(
        about["caption"],
        serde_json::json!(["a fox", "a red fox", "a fox in snow"])
    );
}

#[test]
fn the_same_folder_makes_the_same_bytes_and_a_seed_another_order() {
    let (folder, place) = (pictures(), tempfile::tempdir().unwrap());
    let first = |name: &str, seed| {
        let out = place.path().join(name);
        let config = PackConfig {
            seed,
            ..config(folder.path(), &out)
        };
        pack(&config, &mut |_| {}).unwrap();
        std::fs::read(out.join("00000.tar")).unwrap()
    };
    assert_eq!(first("a", None), first("b", None));
    assert_eq!(first("c", Some(1)), first("d", Some(1)));
    assert_ne!(first("e", Some(1)), first("f", None));
}

#[test]
fn what_is_whole_is_never_replaced_and_what_is_half_done_is() {
    let (folder, place) = (pictures(), tempfile::tempdir().unwrap());
    let out = place.path().join("shards");
    let work = place.path().join("shards.packing");
    std::fs::create_dir(&out).unwrap();
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("00007.tar"), b"half").unwrap();
    packed(folder.path(), &out).unwrap();
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3);
    let error = packed(folder.path(), &out).unwrap_err();
    assert!(matches!(error, PackError::Occupied { .. }), "{error}");
    // A stranger's file in the folder to work in is left alone.
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("notes.txt"), b"mine").unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let error = packed(folder.path(), &out).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
    assert!(work.join("notes.txt").exists());
}

#[test]
fn nothing_to_pack_leaves_nothing() {
    let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("a.png"), b"garbage").unwrap();
    std::fs::write(folder.path().join("a.txt"), b"a").unwrap();
    let error = packed(folder.path(), &place.path().join("out"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bad picture") && error.contains("a.png is neither"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn an_inspection_counts_as_a_loader_does() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/data");
    let mut found = Inspection::default();
    let config = DataConfig {
        resolution: 32,
        wanted: Wanted {
            min_size: Some(0),
            ..Wanted::default()
        },
        ..DataConfig::default()
    };
    for source in spec::expand(
        &[format!("{data}/{{defects,cut,no_tar,lost}}.tar")],
        &Access::default(),
    )
    .unwrap()
    {
        found.add(&source, &config);
    }
    assert_eq!((found.shards, found.samples), (4, 12 + 8));
    for (cause, count) in [
        (Cause::BadPicture, 3),
        (Cause::MissingCaption, 1),
        (Cause::CaptionNotUtf8, 1),
        (Cause::MissingImage, 2),
        (Cause::BrokenShard, 2),
        (Cause::UnreadableShard, 1),
    ] {
        assert_eq!(found.drops.count(cause), count, "{}", found.drops);
    }
    assert_eq!(found.extensions["cls"].count, 1);
    assert_eq!(found.captions.len(), 5);
    let widths = found.widths().unwrap();
    assert!(widths.min == 24 && widths.max == 64, "{widths:?}");
    assert_eq!(found.picture_bytes().unwrap().min.min(1), 1);
}
