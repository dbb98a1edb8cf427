//! `fewstep cache`, and training with what it leaves.

use tempfile::TempDir;

use super::common::{fewstep, fixture, word};
use super::train::{losses, without_data};

#[test]
fn a_cache_is_filled_ahead_and_training_is_the_same() {
    let place = TempDir::new().unwrap();
    let data = format!("--train_shards_path_or_url={}", word(fixture("data/good.tar")));
    let cache = format!("--cache_dir={}", word(place.path().join("cache")));
    let flags = [
        &*data,
        "--min_size=0",
        "--max_train_steps=2",
        "--vae_encode_batch_size=1",
    ];
    let words = |command: &str, out: &str, more: &[&str]| {
        let mut words = without_data(&place.path().join(out), &[&flags[..], more].concat());
        words[0] = command.to_owned();
        words
    };
    let refused = fewstep(words("cache", "unused", &[&cache])).failed(2);
    assert!(
        refused.contains("--cache_crops") && refused.contains("--center_crop"),
        "{refused}"
    );
    let none = fewstep(words("cache", "unused", &["--center_crop"])).failed(2);
    assert!(none.contains("--cache_dir"), "{none}");

    let small = fewstep(words(
        "cache",
        "unused",
        &[&cache, "--center_crop", "--cache_max_gb=1e-6"],
    ));
    let small = small.failed(1);
    assert!(small.contains("as large as it may be"), "{small}");
    let filled = fewstep(words("cache", "unused", &[&cache, "--center_crop"]))
        .ok()
        .stderr;
    assert!(
        filled.contains("a picture takes") && filled.contains("24 pictures"),
        "{filled}"
    );
    let again = fewstep(words("cache", "unused", &[&cache, "--center_crop"]))
        .ok()
        .stderr;
    assert!(again.contains("24 pictures: 0 entries made"), "{again}");
    fewstep(words("train", "without", &["--center_crop"])).ok();
    fewstep(words("train", "with", &["--center_crop", &cache])).ok();
    assert_eq!(
        losses(&place.path().join("with")),
        losses(&place.path().join("without"))
    );
}
