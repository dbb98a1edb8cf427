//! The order of samples: a function of seed and shards, whatever the threads, and resumed to the very next sample.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, batches, captions};
use fewstep_data::{Batch, Cursor, DataConfig, DataError, Flip, Loader};

fn run(config: DataConfig, count: usize) -> Vec<Batch> {
    batches(&mut Loader::new(config).unwrap(), count)
}

#[test]
fn every_sample_is_seen_once_an_epoch() {
    let folder = Folder::sound();
    let config = DataConfig {
        batch_size: 4,
        ..folder.config()
    };
    let mut epochs = Vec::new();
    for epoch in captions(&run(config, 15)).chunks(20) {
        let mut sorted: Vec<u32> = epoch.iter().map(|caption| caption.parse().unwrap()).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<u32>>());
        epochs.push(epoch.to_vec());
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[1], epochs[2]);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = Folder::sound();
    let config = |num_workers| DataConfig {
        num_workers,
        flip: Flip::Random,
        ..folder.config()
    };
    let in_line = run(config(0), 20);
    assert_eq!(in_line[7].sample_numbers, [21, 22, 23]);
    for num_workers in [1, 2, 5] {
        assert_eq!(run(config(num_workers), 20), in_line, "{num_workers} threads");
    }
    assert_eq!(run(config(2), 20), in_line, "once more");
}

#[test]
fn another_seed_is_another_order() {
    let folder = Folder::sound();
    let order = |seed| {
        captions(&run(
            DataConfig {
                seed,
                ..folder.config()
            },
            6,
        ))
    };
    assert_ne!(order(1), order(2));
    assert_eq!(order(2), order(2));
}

#[test]
fn a_window_of_one_keeps_shards_together() {
    let folder = Folder::sound();
    let config = DataConfig {
        shuffle_window: 1,
        batch_size: 5,
        ..folder.config()
    };
    for batch in run(config, 4) {
        let numbers: Vec<u32> = batch
            .captions
            .iter()
            .map(|caption| caption.parse().unwrap())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{numbers:?}"
        );
    }
}

#[test]
fn a_resumed_run_goes_on_with_the_very_next_sample() {
    let folder = Folder::sound();
    for window in [1, 4, 1000] {
        let config = |num_workers| DataConfig {
            num_workers,
            shuffle_window: window,
            flip: Flip::Random,
            ..folder.config()
        };
        let straight = run(config(0), 24);
        // Before, on and after the ends of epochs; each resumed run is itself resumed.
        for stop in [1, 5, 6, 7, 13, 20] {
            let mut first = Loader::new(config(2)).unwrap();
            let mut pieces = batches(&mut first, stop);
            let text = serde_json::to_string(first.cursor()).unwrap();
            drop(first);
            let cursor: Cursor = serde_json::from_str(&text).unwrap();
            assert_eq!(cursor.samples(), 3 * stop as u64);
            let mut second = Loader::resume(config(0), &cursor).unwrap();
            pieces.extend(batches(&mut second, 2));
            let mut third = Loader::resume(config(3), second.cursor()).unwrap();
            pieces.extend(batches(&mut third, 24 - stop - 2));
            assert_eq!(pieces, straight, "window {window}, stopped after {stop}");
        }
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
    seen.extend(captions(&batches(
        &mut Loader::resume(wider, first.cursor()).unwrap(),
        2,
    )));
    assert_eq!(seen, captions(&run(folder.config(), 7)));
}

#[test]
fn a_cursor_of_another_order_is_refused() {
    let folder = Folder::sound();
    let mut loader = Loader::new(folder.config()).unwrap();
    let _ = batches(&mut loader, 2);
    let cursor = loader.cursor().clone();
    let other_seed = DataConfig {
        seed: 2,
        ..folder.config()
    };
    assert!(matches!(
        Loader::resume(other_seed, &cursor),
        Err(DataError::OtherOrder)
    ));
    std::fs::write(folder.file(4), common::sound_shard(20, 25)).unwrap();
    assert!(matches!(
        Loader::resume(folder.config(), &cursor),
        Err(DataError::OtherOrder)
    ));
}

#[test]
fn shards_that_shrank_are_noticed_on_resume() {
    let folder = Folder::sound();
    let mut loader = Loader::new(folder.config()).unwrap();
    let _ = batches(&mut loader, 6);
    for number in 0..4 {
        std::fs::write(folder.file(number), common::sound_shard(0, 1)).unwrap();
    }
    let error = Loader::resume(folder.config(), loader.cursor()).unwrap_err();
    assert!(
        matches!(
            error,
            DataError::PlaceIsGone {
                epoch: 0,
                wanted: 18,
                found: 4
            }
        ),
        "{error}"
    );
}

#[test]
fn dropping_a_busy_loader_stops_its_threads() {
    let folder = Folder::sound();
    for taken in [0, 1, 3] {
        let config = DataConfig {
            num_workers: 3,
            ..folder.config()
        };
        let mut loader = Loader::new(config).unwrap();
        let _ = batches(&mut loader, taken);
        // Joins every thread: it would hang here if one of them did not end.
        drop(loader);
    }
}
