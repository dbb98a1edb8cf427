//! Going on: to the very next sample, wherever a run was killed, or said plainly where that cannot be.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Folder, archive, batches, captions, png, sound_shard};
use fewstep_data::{
    Batch, Cause, Cursor, DataConfig, DataError, Drawing, Flip, Limits, Loader, Origin, Part, PictureFolder,
    Resumed,
};
use fewstep_draw::{Purpose, Stream};

/// As from a checkpoint.
fn stored(cursor: &Cursor) -> Cursor {
    serde_json::from_str(&serde_json::to_string(cursor).unwrap()).unwrap()
}

fn resume(config: &DataConfig, cursor: &Cursor) -> (Loader, Resumed) {
    Loader::resume(config.clone(), &stored(cursor)).unwrap()
}

/// The batches of a run that is killed at five places, drawn with `seed`, and each time goes on with another number of
/// threads; and where it stands at the end.
fn killed_five_times(config: &DataConfig, count: usize, seed: u64) -> (Vec<Batch>, Cursor) {
    let mut draws = Stream::new(seed, Purpose::World, 0);
    let mut places: Vec<usize> = (0..5).map(|_| draws.below(count as u64 + 1) as usize).collect();
    places.sort_unstable();
    places.push(count);
    let mut loader = Loader::new(config.clone()).unwrap();
    let mut seen = Vec::new();
    for place in places {
        seen.extend(batches(&mut loader, place - seen.len()));
        let config = DataConfig {
            num_workers: draws.below(4) as usize,
            ..config.clone()
        };
        let resumed;
        (loader, resumed) = resume(&config, loader.cursor());
        assert_eq!(resumed, Resumed::Exactly, "after {place} of {count}");
    }
    (seen, stored(loader.cursor()))
}

/// That `config` delivers the same, killed or not: `count` batches, the same drops, and the same place at the end.
fn goes_on_exactly(config: &DataConfig, count: usize, what: &str) {
    let mut loader = Loader::new(config.clone()).unwrap();
    let straight = batches(&mut loader, count);
    assert!(loader.cursor().epoch() >= 2, "{what}: too few epochs");
    for seed in 0..6 {
        let (killed, end) = killed_five_times(config, count, seed);
        assert_eq!(killed, straight, "{what}, places of seed {seed}");
        assert_eq!(end, *loader.cursor(), "{what}, places of seed {seed}");
    }
}

/// Five shards of which the second, besides sound samples, has every third picture broken, samples without a caption
/// and files that belong to nothing; the third breaks off, the fourth is empty, and the fifth is no archive.
fn mixed() -> Folder {
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for n in 100..118 {
        let image = if n % 3 == 0 { b"garbage".to_vec() } else { png(n) };
        members.push((format!("{}/{n}.png", "deep".repeat(40)), image));
        members.push(("README".into(), b"nobody's".to_vec()));
        if n % 5 != 0 {
            members.push((
                format!("{}/{n}.txt", "deep".repeat(40)),
                n.to_string().into_bytes(),
            ));
        }
    }
    let members: Vec<(&str, &[u8])> = members.iter().map(|(path, data)| (&**path, &**data)).collect();
    let mut cut = sound_shard(200, 209);
    // In the middle of a picture, some samples before the end.
    cut.truncate(cut.len() - 7000);
    Folder::of(&[
        sound_shard(0, 13),
        archive(&members),
        cut,
        archive(&[]),
        b"no archive".repeat(100),
    ])
}

fn config(folder: &Folder) -> DataConfig {
    DataConfig {
        shuffle_window: 7,
        flip: Flip::Random,
        ..folder.config()
    }
}

#[test]
fn a_run_that_is_killed_five_times_sees_the_samples_of_one_that_is_not() {
    let folder = mixed();
    for shuffle_window in [1, 2, 7, 1000] {
        let config = DataConfig {
            shuffle_window,
            ..config(&folder)
        };
        goes_on_exactly(&config, 35, &format!("window {shuffle_window}"));
    }
}

#[test]
fn so_does_one_whose_window_is_bounded_by_bytes() {
    let folder = mixed();
    for pictures in [1, 3, 9] {
        let config = DataConfig {
            shuffle_window: 1000,
            limits: Limits {
                max_window_bytes: pictures * png(1).len() as u64,
                ..Limits::default()
            },
            ..config(&folder)
        };
        goes_on_exactly(&config, 35, &format!("{pictures} pictures"));
    }
}

#[test]
fn so_does_one_that_draws_shards_with_replacement() {
    let folder = mixed();
    let config = DataConfig {
        drawing: Drawing::WithReplacement,
        ..config(&folder)
    };
    goes_on_exactly(&config, 45, "with replacement");
}

#[test]
fn so_does_each_of_several_ranks() {
    let folder = mixed();
    for (rank, ranks) in [(0, 2), (1, 2), (2, 3), (6, 8)] {
        let config = DataConfig {
            part: Part { rank, ranks },
            ..config(&folder)
        };
        goes_on_exactly(&config, 30, &format!("rank {rank} of {ranks}"));
    }
}

/// A folder of pictures with their numbers as captions, two of them without one.
fn pictures(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        std::fs::write(folder.path().join(format!("{number:03}.png")), png(number)).unwrap();
        if number % 10 != 9 {
            std::fs::write(folder.path().join(format!("{number:03}.txt")), number.to_string()).unwrap();
        }
    }
    folder
}

fn of_folder(folder: PictureFolder) -> DataConfig {
    DataConfig {
        origin: Origin::Folder(folder),
        resolution: 8,
        batch_size: 3,
        seed: 1,
        shuffle_window: 5,
        ..DataConfig::default()
    }
}

#[test]
fn so_does_one_on_a_folder_of_pictures() {
    let folder = pictures(20);
    goes_on_exactly(&of_folder(PictureFolder::new(folder.path())), 20, "pictures");
}

const PARQUET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/data/parquet");

#[test]
fn so_does_one_on_parquet_files() {
    for (file, image_column, caption_column) in [
        ("pictures.parquet", "image", "text"),
        ("holes.parquet", "jpg", "captions"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(Path::new(PARQUET).join(file), folder.path().join(file)).unwrap();
        let config = of_folder(PictureFolder {
            path: folder.path().into(),
            image_column: image_column.into(),
            caption_column: caption_column.into(),
        });
        goes_on_exactly(&config, 15, file);
    }
}

#[test]
fn another_batch_size_goes_on_at_the_same_sample() {
    let folder = Folder::sound();
    let mut first = Loader::new(folder.config()).unwrap();
    let mut seen = captions(&batches(&mut first, 3));
    let wider = DataConfig {
        batch_size: 6,
        ..folder.config()
    };
    let (mut second, resumed) = resume(&wider, first.cursor());
    assert_eq!(resumed, Resumed::Exactly);
    let later = batches(&mut second, 2);
    assert_eq!(later[0].sample_numbers, [9, 10, 11, 12, 13, 14]);
    seen.extend(captions(&later));
    assert_eq!(
        seen,
        captions(&batches(&mut Loader::new(folder.config()).unwrap(), 7))
    );
}

/// Goes on after six samples of `config` with `changed`, which is another order, and returns what is said.
fn next_epoch(config: &DataConfig, changed: &DataConfig) -> String {
    let mut loader = Loader::new(config.clone()).unwrap();
    let _ = batches(&mut loader, 2);
    let (mut second, resumed) = resume(changed, loader.cursor());
    assert!(matches!(resumed, Resumed::NextEpoch { .. }), "{resumed}");
    assert_eq!(second.cursor().epoch(), 1);
    assert_eq!(second.cursor().drops(), loader.cursor().drops());
    let numbers = batches(&mut second, 1)[0].sample_numbers.clone();
    let wanted = 6 + changed.part.rank * 3;
    assert_eq!(
        numbers,
        [wanted, wanted + 1, wanted + 2],
        "no number is used twice"
    );
    // From there it goes on as any other run.
    let (mut third, resumed) = resume(changed, second.cursor());
    assert_eq!(resumed, Resumed::Exactly);
    assert_eq!(batches(&mut third, 3), batches(&mut second, 3));
    resumed_text(config, changed)
}

fn resumed_text(config: &DataConfig, changed: &DataConfig) -> String {
    let mut loader = Loader::new(config.clone()).unwrap();
    let _ = batches(&mut loader, 2);
    resume(changed, loader.cursor()).1.to_string()
}

#[test]
fn another_order_is_said_and_begins_with_the_next_epoch() {
    let folder = Folder::sound();
    let config = folder.config();
    let check = |changed: DataConfig, words: &str| {
        let text = next_epoch(&config, &changed);
        assert!(text.contains("next epoch") && text.contains(words), "{text}");
    };
    check(
        DataConfig {
            seed: 2,
            ..config.clone()
        },
        "the seed was 1 and is 2",
    );
    check(
        DataConfig {
            shuffle_window: 5,
            ..config.clone()
        },
        "the shuffle window was 1000 and is 5",
    );
    check(
        DataConfig {
            part: Part { rank: 1, ranks: 2 },
            ..config.clone()
        },
        "the number of ranks was 1 and is 2",
    );
    check(
        DataConfig {
            drawing: Drawing::WithReplacement,
            ..config.clone()
        },
        "shards were read once an epoch each and are drawn with replacement",
    );
    let three = Origin::Shards(vec![format!("{}/{{000..002}}.tar", folder.path().display())]);
    check(
        DataConfig {
            origin: three,
            ..config.clone()
        },
        "was 4 and is 3",
    );
    let other = Origin::Shards(vec![format!(
        "{}/{{003,001,002,000}}.tar",
        folder.path().display()
    )]);
    check(
        DataConfig {
            origin: other,
            ..config.clone()
        },
        "are other ones",
    );
}

#[test]
fn a_folder_in_which_a_caption_or_a_picture_changed_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, bytes: &[u8]| std::fs::write(folder.path().join(file), bytes).unwrap();
    let rows = |caption: &str| {
        let row = |n: u32| format!("{{\"file_name\": \"{n}.png\", \"text\": \"{caption} {n}\"}}\n");
        (0..10).map(row).collect::<String>()
    };
    for number in 0..10 {
        write(&format!("{number}.png"), &png(number));
    }
    write("metadata.jsonl", rows("a cat").as_bytes());
    let config = of_folder(PictureFolder::new(folder.path()));
    let mut loader = Loader::new(config.clone()).unwrap();
    let _ = batches(&mut loader, 2);
    let now = || resume(&config, loader.cursor()).1;
    assert_eq!(now(), Resumed::Exactly);

    write("metadata.jsonl", rows("a dog").as_bytes());
    assert!(
        now().to_string().contains("captions) are other ones"),
        "{}",
        now()
    );
    write("metadata.jsonl", rows("a cat").as_bytes());
    assert_eq!(now(), Resumed::Exactly);
    write("3.png", &common::picture(3, 60, 50, image::ImageFormat::Png));
    assert!(matches!(now(), Resumed::NextEpoch { .. }));
    write("3.png", &png(3));
    write("11.png", &png(11));
    assert!(now().to_string().contains("was 10 and is 11"), "{}", now());
}

#[test]
fn a_folder_may_move() {
    let outer = tempfile::tempdir().unwrap();
    let (here, there) = (outer.path().join("here"), outer.path().join("there"));
    std::fs::rename(pictures(12).keep(), &here).unwrap();
    let config = |path: &Path| of_folder(PictureFolder::new(path));
    let mut loader = Loader::new(config(&here)).unwrap();
    let _ = batches(&mut loader, 2);
    let cursor = loader.cursor().clone();
    let rest = captions(&batches(&mut loader, 4));
    std::fs::rename(&here, &there).unwrap();
    let (mut second, resumed) = resume(&config(&there), &cursor);
    assert_eq!(resumed, Resumed::Exactly);
    assert_eq!(captions(&batches(&mut second, 4)), rest);
}

#[test]
fn what_can_no_longer_be_read_is_counted_and_the_rest_goes_on() {
    let folder = Folder::sound();
    let config = DataConfig {
        shuffle_window: 12,
        ..folder.config()
    };
    let mut loader = Loader::new(config.clone()).unwrap();
    let seen = captions(&batches(&mut loader, 1));
    for number in 0..4 {
        // One after the other is taken away, and put back: by then some of its samples are in the window.
        let bytes = std::fs::read(folder.file(number)).unwrap();
        let gone: Vec<String> = (number * 5..number * 5 + 5).map(|n| n.to_string()).collect();
        for replacement in [None, Some(sound_shard(30, 31))] {
            match &replacement {
                None => std::fs::remove_file(folder.file(number)).unwrap(),
                Some(bytes) => std::fs::write(folder.file(number), bytes).unwrap(),
            }
            // The list keeps its four shards: they are named one by one.
            let named = DataConfig {
                origin: Origin::Shards(vec![format!("{}/{{000..003}}.tar", folder.path().display())]),
                ..config.clone()
            };
            let (mut second, resumed) = resume(&named, loader.cursor());
            let lost = second.drops().count(Cause::Gone);
            match &resumed {
                Resumed::Exactly => assert_eq!(lost, 0),
                Resumed::Without { count, first } => {
                    assert_eq!(lost, *count);
                    assert!(
                        first.contains(&format!("{number:03}.tar, sample number ")),
                        "{first}"
                    );
                }
                Resumed::NextEpoch { .. } => panic!("{resumed}"),
            }
            // What is left of the epoch is all that was neither seen nor in the lost shard's part of the window.
            let mut epoch: Vec<String> = seen.clone();
            while second.cursor().epoch() == 0 {
                epoch.extend(captions(&batches(&mut second, 1)));
            }
            for n in (0..20).map(|n| n.to_string()).filter(|n| !gone.contains(n)) {
                assert!(epoch.contains(&n), "{n} without shard {number}: {epoch:?}");
            }
        }
        std::fs::write(folder.file(number), bytes).unwrap();
    }
}

#[test]
fn a_damaged_cursor_does_no_harm() {
    let folder = Folder::sound();
    let mut loader = Loader::new(config(&folder)).unwrap();
    let _ = batches(&mut loader, 2);
    let sound = serde_json::to_value(loader.cursor()).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut damaged = sound.clone();
        damaged["position"][name] = value;
        Loader::resume(config(&folder), &serde_json::from_value(damaged).unwrap())
    };
    for name in ["turns", "drawn", "epoch"] {
        let error = with(name, u64::MAX.into()).unwrap_err();
        assert!(matches!(error, DataError::BadCursor), "{error}");
    }
    assert!(with("window", "1:2@18446744073709551615".into()).is_err());
    for (name, value) in [
        ("turns", 0.into()),
        ("turns", 77.into()),
        ("open", "33333@3333333333333".into()),
        ("window", "0:3@7 77:1 0:1@77777777777 1:777@512 1:777@512".into()),
        ("drawn", 777_777.into()),
        ("epoch", 777.into()),
    ] {
        let (mut loader, _) = with(name, value).unwrap();
        let _ = batches(&mut loader, 10);
    }
}
