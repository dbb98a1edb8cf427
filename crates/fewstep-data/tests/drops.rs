//! What a loader does with pictures and shards it cannot use: it goes on, counts, and never hangs.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, archive, batches, captions, png, sound_shard};
use fewstep_data::{Cause, DataConfig, DataError, Limits, Loader, Origin, Wanted};

#[test]
fn bad_pictures_take_no_number_and_change_no_thread_count() {
    let members: Vec<(String, Vec<u8>)> = (0..40)
        .flat_map(|n| {
            let image = if n % 3 == 0 { b"garbage".to_vec() } else { png(n) };
            [
                (format!("{n:02}.png"), image),
                (format!("{n:02}.txt"), n.to_string().into_bytes()),
            ]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(path, data)| (&**path, &**data)).collect();
    let folder = Folder::of(&[archive(&members)]);
    let run = |num_workers| {
        let mut loader = Loader::new(DataConfig {
            num_workers,
            ..folder.config()
        })
        .unwrap();
        let found = batches(&mut loader, 12);
        (found, loader.drops().clone(), loader.cursor().clone())
    };
    let in_line = run(0);
    let numbers: Vec<u64> = in_line
        .0
        .iter()
        .flat_map(|batch| batch.sample_numbers.clone())
        .collect();
    assert_eq!(numbers, (0..36).collect::<Vec<u64>>());
    assert!(
        captions(&in_line.0)
            .iter()
            .all(|caption| caption.parse::<u32>().unwrap() % 3 != 0)
    );
    assert!(in_line.1.count(Cause::BadPicture) >= 14);
    // Even the counts are those of the batches delivered, however far the threads have read ahead.
    assert_eq!(run(1), in_line);
    assert_eq!(run(4), in_line);
}

#[test]
fn many_bad_shards_before_a_good_one_cost_no_time() {
    let mut shards = vec![b"not a tar".repeat(100); 300];
    shards.push(sound_shard(0, 6));
    let folder = Folder::of(&shards);
    let missing = folder.path().join("{a,b}.tar").display().to_string();
    let mut config = folder.config();
    config.giving_up.max_bad_fraction = 1.0;
    // In the order written, the two files that do not exist come before the folder.
    config.origin = Origin::Shards(vec![
        format!("{missing}::{}", folder.file(300).display()),
        folder.path().display().to_string(),
    ]);
    let error = Loader::new(config.clone()).unwrap_err().to_string();
    assert!(error.contains("a.tar") && error.contains("b.tar"), "{error}");
    config.origin = Origin::Shards(vec![
        format!("{}/{{a,b,300}}.tar", folder.path().display()),
        folder.path().display().to_string(),
    ]);
    let start = std::time::Instant::now();
    let mut loader = Loader::new(config).unwrap();
    let _ = batches(&mut loader, 4);
    assert!(start.elapsed().as_secs() < 5);
    let _ = batches(&mut loader, 1);
    assert!(loader.drops().count(Cause::BrokenShard) >= 300);
    assert!(loader.drops().count(Cause::UnreadableShard) >= 2);
}

#[test]
fn a_shard_that_is_a_folder_is_unreadable_and_no_more() {
    let folder = Folder::of(&[sound_shard(0, 3)]);
    std::fs::create_dir(folder.path().join("x.tar")).unwrap();
    let mut loader = Loader::new(folder.config()).unwrap();
    assert_eq!(captions(&batches(&mut loader, 1)).len(), 3);
}

#[test]
fn nothing_usable_is_an_error_with_the_table() {
    let bad = archive(&[
        ("a.png", b"garbage".as_slice()),
        ("a.txt", b"x"),
        ("b.png", &png(1)),
        ("c.txt", b"x"),
    ]);
    let folder = Folder::of(&[bad.clone(), bad]);
    for num_workers in [0, 3] {
        let mut loader = Loader::new(DataConfig {
            num_workers,
            ..folder.config()
        })
        .unwrap();
        let error = loader.next_batch().unwrap_err();
        let DataError::NothingPassed { shards: 2, drops, .. } = &error else {
            panic!("{error}")
        };
        for cause in [Cause::BadPicture, Cause::MissingCaption, Cause::MissingImage] {
            assert_eq!(drops.count(cause), 2, "{cause:?}");
        }
        let text = error.to_string();
        assert!(
            text.contains("bad picture") && text.contains(".tar: b (found png)"),
            "{text}"
        );
    }
}

#[test]
fn limits_drop_what_is_beyond_them() {
    let folder = Folder::of(&[sound_shard(0, 3)]);
    let with = |limits| {
        let mut loader = Loader::new(DataConfig {
            limits,
            ..folder.config()
        })
        .unwrap();
        match loader.next_batch().unwrap_err() {
            DataError::NothingPassed { drops, .. } => *drops,
            error => panic!("{error}"),
        }
    };
    let drops = with(Limits {
        max_member_bytes: 20,
        ..Limits::default()
    });
    assert_eq!(drops.count(Cause::OversizedMember), 3);
    let drops = with(Limits {
        max_pixels: 24 * 16 - 1,
        ..Limits::default()
    });
    assert_eq!(drops.count(Cause::OversizedPicture), 3);
    let drops = with(Limits {
        max_side: 23,
        ..Limits::default()
    });
    assert_eq!(drops.count(Cause::OversizedPicture), 3);
}

#[test]
fn a_strip_that_would_grow_beyond_the_limit_is_dropped() {
    let strip = common::picture(0, 4000, 1, image::ImageFormat::Png);
    let folder = Folder::of(&[archive(&[("a.png", &strip), ("a.txt", b"x")]), sound_shard(0, 3)]);
    let mut loader = Loader::new(DataConfig {
        resolution: 64,
        wanted: Wanted {
            min_size: Some(0),
            ..Wanted::default()
        },
        limits: Limits {
            // 64 x 256000 pixels after the resize.
            max_pixels: 1_000_000,
            ..Limits::default()
        },
        ..folder.config()
    })
    .unwrap();
    let _ = batches(&mut loader, 2);
    // Once an epoch, the second of which may not have come to it.
    assert!((1..=2).contains(&loader.drops().count(Cause::OversizedPicture)));
}

#[test]
fn the_window_may_be_bounded_by_bytes() {
    let folder = Folder::sound();
    let run = |max_window_bytes| {
        let mut loader = Loader::new(DataConfig {
            batch_size: 20,
            limits: Limits {
                max_window_bytes,
                ..Limits::default()
            },
            ..folder.config()
        })
        .unwrap();
        captions(&batches(&mut loader, 1))
    };
    // Room for one: the order within a shard is kept. Every sample is still seen once.
    let narrow = run(1);
    let numbers: Vec<u32> = narrow.iter().map(|caption| caption.parse().unwrap()).collect();
    assert!(
        numbers
            .chunks(5)
            .all(|shard| shard.windows(2).all(|pair| pair[1] == pair[0] + 1))
    );
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<u32>>());
    assert_ne!(run(1 << 30), narrow);
}

#[test]
fn impossible_options_are_refused_by_name() {
    let folder = Folder::sound();
    for (config, word) in [
        (
            DataConfig {
                resolution: 0,
                ..folder.config()
            },
            "resolution",
        ),
        (
            DataConfig {
                batch_size: 0,
                ..folder.config()
            },
            "batch size",
        ),
        (
            DataConfig {
                shuffle_window: 0,
                ..folder.config()
            },
            "shuffle window",
        ),
        (
            DataConfig {
                resolution: 100_000,
                ..folder.config()
            },
            "resolution",
        ),
    ] {
        let message = Loader::new(config).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}
