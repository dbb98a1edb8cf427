//! When a loader gives up, and what it says then.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Folder, archive, batches, config_of, eager, png, sound_shard};
use fewstep_data::cache::{Key, Latents, Store, Walk};
use fewstep_data::{Cause, Crop, DataConfig, DataError, GivingUp, Loader, Origin, SourceOptions};

/// A shard of `samples`, of which every `nth` is sound and the others hold no picture.
fn shard(samples: u32, nth: u32) -> Vec<u8> {
    let members: Vec<(String, Vec<u8>)> = (0..samples)
        .flat_map(|n| {
            let image = if n % nth == 0 { png(n) } else { b"garbage".to_vec() };
            [
                (format!("{n:04}.png"), image),
                (format!("{n:04}.txt"), n.to_string().into_bytes()),
            ]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(path, bytes)| (&**path, &**bytes)).collect();
    archive(&members)
}

fn allowing(max_bad_fraction: f64) -> GivingUp {
    GivingUp {
        max_bad_fraction,
        ..GivingUp::default()
    }
}

/// Reads batches until there are no more, or enough.
fn read(config: &DataConfig) -> (usize, Option<DataError>) {
    let mut loader = Loader::new(config.clone()).unwrap();
    for count in 0..100 {
        if let Err(error) = loader.next_batch() {
            return (count, Some(error));
        }
    }
    (100, None)
}

#[test]
fn too_many_bad_samples_end_it_at_the_same_place_on_any_number_of_threads() {
    let folder = Folder::of(&[shard(300, 3)]);
    for num_workers in [0, 3] {
        let config = |fraction| DataConfig {
            num_workers,
            shuffle_window: 1,
            batch_size: 1,
            giving_up: allowing(fraction),
            ..folder.config()
        };
        let (delivered, error) = read(&config(0.5));
        let Some(DataError::TooManyBad { bad, of, drops, .. }) = &error else {
            panic!("{error:?}")
        };
        // Judged by the first bad one once a hundred were looked at, of which each third was sound.
        assert_eq!((*bad, *of), (67, 101));
        assert_eq!(delivered, 34);
        assert_eq!(drops.count(Cause::BadPicture), 67);
        let text = error.unwrap().to_string();
        assert!(
            text.contains("67 of 101 samples")
                && text.contains("--max_bad_fraction")
                && text.contains("0001"),
            "{text}"
        );
        assert_eq!(read(&config(0.7)).0, 100);
    }
}

#[test]
fn a_small_epoch_is_judged_at_its_end() {
    let folder = Folder::of(&[shard(12, 4)]);
    let config = |fraction| DataConfig {
        giving_up: allowing(fraction),
        ..folder.config()
    };
    let (delivered, error) = read(&config(0.5));
    assert_eq!(delivered, 1);
    assert!(
        matches!(error, Some(DataError::TooManyBad { bad: 9, of: 12, .. })),
        "{error:?}"
    );
    assert_eq!(read(&config(0.8)).0, 100);
}

#[test]
fn shards_that_hold_nothing_are_judged_by_themselves() {
    let folder = Folder::of(&[sound_shard(0, 20), archive(&[]), archive(&[])]);
    let config = |fraction| DataConfig {
        giving_up: allowing(fraction),
        ..folder.config()
    };
    let (_, error) = read(&config(0.5));
    let Some(DataError::TooManyBad { what, bad, of, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((what, bad, of), ("shards", 2, 3));
    assert_eq!(read(&config(0.7)).0, 100);
}

#[test]
fn what_was_not_asked_for_is_not_bad() {
    let folder = Folder::of(&[shard(30, 3)]);
    let mut config = folder.config();
    config.giving_up = allowing(0.0);
    config.wanted.min_size = Some(1000);
    let (_, error) = read(&config);
    assert!(
        matches!(
            &error,
            Some(DataError::NothingPassed { .. } | DataError::TooManyBad { bad: 20, .. })
        ),
        "{error:?}"
    );
    let folder = Folder::of(&[sound_shard(0, 4)]);
    let config = DataConfig {
        giving_up: allowing(0.0),
        ..folder.config()
    };
    assert_eq!(batches(&mut Loader::new(config).unwrap(), 5).len(), 5);
}

#[test]
fn a_wait_in_vain_ends_it_with_the_table() {
    let folder = Folder::of(&[shard(8, 2)]);
    let command = format!("pipe:cat {} | head -c 9000; sleep 1000", folder.file(0).display());
    for num_workers in [0, 2] {
        let mut loader = Loader::new(DataConfig {
            num_workers,
            giving_up: GivingUp {
                max_wait: Duration::from_millis(300),
                max_bad_fraction: 1.0,
            },
            ..config_of(&*command, eager())
        })
        .unwrap();
        let started = Instant::now();
        let error = loop {
            if let Err(error) = loader.next_batch() {
                break error;
            }
        };
        // The command itself would be waited for for ten minutes.
        assert!(started.elapsed() < Duration::from_secs(60));
        let DataError::Stalled { drops, .. } = &error else {
            panic!("{error}")
        };
        assert!(drops.count(Cause::BadPicture) >= 1, "{drops}");
        let text = error.to_string();
        assert!(
            text.contains("--max_data_wait") && text.contains("bad picture"),
            "{text}"
        );
        assert!(matches!(loader.next_batch(), Err(DataError::Ended)));
    }
}

#[test]
fn a_shard_that_is_silent_is_given_up_in_time_for_the_others() {
    let folder = Folder::of(&[sound_shard(0, 5)]);
    let mut config = config_of(
        String::new(),
        SourceOptions {
            timeout: Duration::from_millis(200),
            patience: Duration::from_millis(500),
            first_wait: Duration::from_millis(1),
            retries: 1000,
            ..SourceOptions::default()
        },
    );
    config.origin = Origin::Shards(vec![
        "pipe:sleep 1000".into(),
        folder.file(0).display().to_string(),
    ]);
    let mut loader = Loader::new(config).unwrap();
    batches(&mut loader, 10);
    assert!(
        loader.drops().count(Cause::SilentShard) >= 1,
        "{}",
        loader.drops()
    );
    // Once more is all that half a second has room for.
    let (silent, retried) = (
        loader.drops().count(Cause::SilentShard),
        loader.drops().count(Cause::RetriedSilence),
    );
    assert!(retried <= silent, "{}", loader.drops());
}

/// Walks over the data as one who fills a cache does.
fn walk(config: DataConfig) -> (usize, Option<DataError>) {
    let cache = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(cache.path(), None).unwrap());
    let config = DataConfig {
        num_workers: 2,
        crop: Crop::Center,
        ..config
    };
    let mut walk = Walk::new(config, Latents::new(store, Key::of(b"vae"))).unwrap();
    let mut passed = 0;
    for missing in &mut walk {
        match missing {
            Ok(_) => passed += 1,
            Err(error) => {
                assert!(walk.next().is_none());
                return (passed, Some(error));
            }
        }
    }
    (passed, None)
}

#[test]
fn filling_a_cache_gives_up_as_training_does() {
    let folder = Folder::of(&[shard(300, 3)]);
    let walked = |fraction| {
        walk(DataConfig {
            giving_up: allowing(fraction),
            ..folder.config()
        })
    };
    let (_, error) = walked(0.5);
    let Some(DataError::TooManyBad { of, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(
        (100..300).contains(&of),
        "judged while it goes on, not at the end: {of}"
    );
    assert!(matches!(walked(0.7), (100, None)));

    let (_, error) = walk(DataConfig {
        giving_up: allowing(0.5),
        ..Folder::of(&[shard(12, 12)]).config()
    });
    assert!(
        matches!(error, Some(DataError::TooManyBad { bad: 11, of: 12, .. })),
        "{error:?}"
    );
}

#[test]
fn filling_a_cache_does_not_wait_for_ever() {
    let folder = Folder::of(&[shard(8, 2)]);
    let command = format!("pipe:cat {} | head -c 9000; sleep 1000", folder.file(0).display());
    let started = Instant::now();
    let (_, error) = walk(DataConfig {
        giving_up: GivingUp {
            max_wait: Duration::from_millis(300),
            max_bad_fraction: 1.0,
        },
        ..config_of(&*command, eager())
    });
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(matches!(error, Some(DataError::Stalled { .. })), "{error:?}");
}
