//! `fewstep shards`: a folder packed into shards trains with the same captions, and shards are looked into.

use std::fs;

use tempfile::TempDir;

use super::common::{fewstep, fixture, word};
use super::folder::pictures;
use super::train::{losses, without_data};

#[test]
fn a_packed_folder_holds_the_folders_captions_and_trains() {
    let (data, place) = (pictures(), TempDir::new().unwrap());
    fs::write(data.path().join("unnamed.png"), b"x").unwrap();
    let shards = place.path().join("shards");
    let pack = || {
        fewstep([
            "shards",
            "pack",
            &word(data.path()),
            &word(&shards),
            "--shard-size=4",
            "--caption-column=words",
        ])
    };
    let ran = pack().ok();
    assert!(ran.stdout.contains("packed 6 samples"), "{}", ran.stdout);
    assert!(ran.stdout.contains("into 2 shard(s)"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("unnamed.png is named in no metadata file"),
        "{}",
        ran.stdout
    );
    let text = pack().failed(1);
    assert!(text.contains("is not an empty folder"), "{text}");

    let ran = fewstep(["shards", "inspect", &word(&shards), "--resolution=32"]).ok();
    assert!(
        ran.stdout
            .contains("2 shard(s), 6 samples to train on, 0 dropped"),
        "{}",
        ran.stdout
    );
    for number in 0..5 {
        let caption = format!("0000{number}: picture {number}");
        assert!(ran.stdout.contains(&caption), "{caption}: {}", ran.stdout);
    }

    let out = place.path().join("run");
    let shards = format!("--train_shards_path_or_url={}", word(&shards));
    fewstep(without_data(&out, &[&shards, "--max_train_steps=2"])).ok();
    assert_eq!(losses(&out).len(), 2);
}

#[test]
fn an_inspection_names_what_would_be_dropped() {
    let defects = word(fixture("data/defects.tar"));
    let text = fewstep(["shards", "inspect", &defects]).failed(1);
    assert!(
        text.contains("a lower --min_size enlarges small pictures"),
        "{text}"
    );
    let ran = fewstep(["shards", "inspect", &defects, "--min_size=0"]).ok();
    for words in ["bad picture", "caption is not UTF-8", "no_caption", "keys from "] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let text = fewstep(["shards", "inspect", &word(fixture("data/no_tar.tar"))]).failed(1);
    assert!(text.contains("not one sample"), "{text}");
}
