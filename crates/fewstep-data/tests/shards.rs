//! The shards among the fixtures, good and bad: exactly the samples and exactly the causes (spec F19).

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{batches, captions};
use fewstep_data::{Cause, DataConfig, DataError, Loader, Origin};
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/data");

/// Reads `shard` in its own order.
fn config(shard: &str) -> DataConfig {
    DataConfig {
        origin: Origin::Shards(vec![format!("{DATA}/{shard}")]),
        resolution: 16,
        batch_size: 1,
        shuffle_window: 1,
        ..DataConfig::default()
    }
}

fn expected(shard: &str) -> Value {
    let text = std::fs::read_to_string(format!("{DATA}/shards.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[shard].clone()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// The keys of the first `count` samples of `shard`, without its name.
fn keys(loader: &mut Loader, count: usize) -> Vec<String> {
    batches(loader, count)
        .iter()
        .map(|batch| batch.keys[0].split_once(".tar: ").unwrap().1.to_owned())
        .collect()
}

#[test]
fn a_good_shard_gives_every_sample() {
    let expected = expected("good.tar");
    let wanted = texts(&expected["keys"]);
    let mut loader = Loader::new(config("good.tar")).unwrap();
    assert_eq!(keys(&mut loader, wanted.len()), wanted);
    assert!(loader.drops().is_empty());
    let mut loader = Loader::new(config("good.tar")).unwrap();
    let batches = batches(&mut loader, wanted.len());
    assert_eq!(captions(&batches), texts(&expected["captions"]));
}

#[test]
fn a_shard_of_defects_gives_what_is_sound_and_counts_the_rest() {
    let expected = expected("defects.tar");
    let wanted = texts(&expected["keys"]);
    let mut loader = Loader::new(config("defects.tar")).unwrap();
    assert_eq!(keys(&mut loader, wanted.len()), wanted);
    // The next sample is the first of the second epoch: now the whole shard has been seen.
    assert_eq!(keys(&mut loader, 1), wanted[..1]);
    let counts: BTreeMap<Cause, u64> = loader
        .drops()
        .iter()
        .map(|(cause, tally)| (cause, tally.count))
        .collect();
    assert_eq!(
        counts,
        BTreeMap::from([
            (Cause::MissingImage, 2),
            (Cause::MissingCaption, 1),
            (Cause::CaptionNotUtf8, 1),
            (Cause::BadPicture, 3),
        ])
    );
    assert_eq!(
        loader.drops().total(),
        expected["dropped"].as_object().unwrap().len() as u64
    );
    let first = |cause| {
        let (_, tally) = loader
            .drops()
            .iter()
            .find(|(struck, _)| *struck == cause)
            .unwrap();
        tally.first.clone()
    };
    assert!(first(Cause::MissingCaption).contains("no_caption"));
    assert!(first(Cause::CaptionNotUtf8).contains("not_utf8"));
    assert!(first(Cause::BadPicture).contains("garbage"));
}

#[test]
fn a_cut_shard_gives_what_came_before_the_cut() {
    let wanted = texts(&expected("cut.tar")["keys"]);
    let mut loader = Loader::new(config("cut.tar")).unwrap();
    assert_eq!(keys(&mut loader, wanted.len()), wanted);
    let _ = keys(&mut loader, 1);
    assert_eq!(
        (loader.drops().count(Cause::BrokenShard), loader.drops().total()),
        (1, 1)
    );
}

#[test]
fn shards_without_a_sample_are_an_error_that_counts() {
    for (shard, cause) in [
        ("empty.tar", Cause::EmptyShard),
        ("zero_bytes.tar", Cause::EmptyShard),
        ("no_tar.tar", Cause::BrokenShard),
    ] {
        for num_workers in [0, 2] {
            let config = DataConfig {
                num_workers,
                ..config(shard)
            };
            let mut loader = Loader::new(config).unwrap();
            let error = loader.next_batch().unwrap_err();
            let DataError::NothingPassed { shards: 1, drops, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((drops.count(cause), drops.total()), (1, 1), "{shard}");
            assert!(error.to_string().contains(shard), "{error}");
            assert!(matches!(loader.next_batch(), Err(DataError::Ended)));
        }
    }
}

#[test]
fn a_folder_of_all_of_them_trains_on_what_is_sound() {
    let mut loader = Loader::new(DataConfig {
        origin: Origin::Shards(vec![DATA.into()]),
        shuffle_window: 50,
        num_workers: 2,
        ..config("")
    })
    .unwrap();
    // 24 + 4 + 12 + 8 samples an epoch.
    let _ = batches(&mut loader, 2 * 48);
    assert_eq!(loader.cursor().epoch(), 1);
    let _ = batches(&mut loader, 1);
    assert_eq!(loader.cursor().epoch(), 2);
    assert!(loader.drops().total() >= 2 * 11);
}
