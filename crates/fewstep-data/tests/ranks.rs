//! Loaders that share the data: together they deliver what one would, each sample once an epoch.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::{Folder, batches, captions, sound_shard};
use fewstep_data::{Cause, DataConfig, Drawing, Drops, Loader, Part};

/// The samples that `rank` delivers of its epochs `0..count`, each epoch sorted, and what it drops in them.
fn epochs(config: &DataConfig, part: Part, count: u64) -> (Vec<Vec<u32>>, Drops) {
    let config = DataConfig {
        part,
        batch_size: 1,
        ..config.clone()
    };
    let mut loader = Loader::new(config).unwrap();
    let mut epochs = vec![Vec::new(); count as usize];
    let mut drops = Drops::default();
    loop {
        let batch = loader.next_batch().unwrap();
        if loader.cursor().epoch() >= count {
            epochs.iter_mut().for_each(|epoch| epoch.sort_unstable());
            return (epochs, drops);
        }
        // What the last epoch drops at its end is seen with the first sample of the next.
        drops = loader.drops().clone();
        epochs[loader.cursor().epoch() as usize].push(batch.captions[0].parse().unwrap());
    }
}

/// Shards of these many samples, with captions counted on from shard to shard.
fn shards(sizes: &[u32]) -> (Folder, u32) {
    let mut from = 0;
    let shards: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| {
            from += size;
            sound_shard(from - size, from)
        })
        .collect();
    (Folder::of(&shards), from)
}

#[test]
fn every_sample_is_seen_once_an_epoch_by_one_of_them() {
    for sizes in [
        &[5, 5, 5, 5][..],
        &[9, 1, 4, 2, 7, 3, 6],
        &[20],
        &[4, 9],
        &[1; 13],
    ] {
        let (folder, count) = shards(sizes);
        for ranks in [1, 2, 3, 5] {
            let parts: Vec<Vec<Vec<u32>>> = (0..ranks)
                .map(|rank| epochs(&folder.config(), Part { rank, ranks }, 3).0)
                .collect();
            for epoch in 0..3 {
                let mut together: Vec<u32> = parts.iter().flat_map(|part| part[epoch].clone()).collect();
                together.sort_unstable();
                let wanted: Vec<u32> = (0..count).collect();
                assert_eq!(together, wanted, "{sizes:?}, {ranks} ranks, epoch {epoch}");
            }
        }
    }
}

#[test]
fn their_shares_are_as_even_as_the_shards() {
    // (sizes of the shards, ranks, the most and the least that a rank may have of an epoch)
    for (sizes, ranks, least, most) in [
        (&[6; 8][..], 4, 12, 12),
        (&[6; 9], 4, 13, 14),
        (&[20], 3, 6, 7),
        (&[30, 30], 5, 12, 12),
        (&[1; 13], 5, 2, 3),
    ] {
        let (folder, _) = shards(sizes);
        for rank in 0..ranks {
            for epoch in epochs(&folder.config(), Part { rank, ranks }, 3).0 {
                assert!(
                    (least..=most).contains(&epoch.len()),
                    "{sizes:?}, rank {rank} of {ranks}: {}",
                    epoch.len()
                );
            }
        }
    }
}

#[test]
fn their_batches_have_the_numbers_of_one_long_batch() {
    let folder = Folder::sound();
    let one = Loader::new(DataConfig {
        batch_size: 6,
        ..folder.config()
    });
    let long: Vec<Vec<u64>> = batches(&mut one.unwrap(), 8)
        .into_iter()
        .map(|batch| batch.sample_numbers)
        .collect();
    let mut together = vec![Vec::new(); 8];
    for rank in 0..3 {
        let mut loader = Loader::new(DataConfig {
            batch_size: 2,
            part: Part { rank, ranks: 3 },
            ..folder.config()
        })
        .unwrap();
        for (step, batch) in batches(&mut loader, 8).into_iter().enumerate() {
            together[step].extend(batch.sample_numbers);
        }
        assert_eq!(loader.cursor().samples(), 48);
    }
    assert_eq!(together, long);
}

#[test]
fn what_is_dropped_is_counted_by_one_of_them() {
    let bad = |n: u8| vec![n + 1; 3000];
    // A list in which every rank reads some shards alone, and one that all of them read.
    for count in [7, 2] {
        let mut all: Vec<Vec<u8>> = (0..count).map(bad).collect();
        all.push(sound_shard(0, 20));
        let folder = Folder::of(&all);
        std::fs::create_dir(folder.path().join("x.tar")).unwrap();
        let mut config = folder.config();
        config.origin = fewstep_data::Origin::Shards(vec![
            folder.path().display().to_string(),
            format!("{}/{{nowhere,000}}.tar", folder.path().display()),
        ]);
        for ranks in [1, 2, 3, 4] {
            let drops: Vec<Drops> = (0..ranks)
                .map(|rank| epochs(&config, Part { rank, ranks }, 4).1)
                .collect();
            let together = |cause| drops.iter().map(|drops| drops.count(cause)).sum::<u64>();
            // In each epoch all bad shards, one of them twice, and the one that is not there; the last epoch may end
            // before its last sample.
            let each = u64::from(count) + 1;
            assert!(
                (3 * each..=4 * each).contains(&together(Cause::BrokenShard)),
                "{drops:?}"
            );
            assert!((3..=4).contains(&together(Cause::UnreadableShard)), "{drops:?}");
        }
    }
}

#[test]
fn a_rank_without_a_sample_in_one_epoch_waits_for_another() {
    let (folder, _) = shards(&[1]);
    for rank in 0..3 {
        let (epochs, _) = epochs(&folder.config(), Part { rank, ranks: 3 }, 6);
        assert_eq!(epochs.concat(), [0, 0]);
    }
}

#[test]
fn a_rank_that_gets_nothing_but_bad_shards_for_a_while_is_no_error() {
    let mut all = vec![sound_shard(0, 4)];
    all.extend((1..6).map(|n| vec![n; 3000]));
    let folder = Folder::of(&all);
    for rank in 0..3 {
        let mut loader = Loader::new(DataConfig {
            part: Part { rank, ranks: 3 },
            ..folder.config()
        })
        .unwrap();
        let _ = batches(&mut loader, 20);
    }
    let all_bad = Folder::of(&all[1..]);
    let mut loader = Loader::new(DataConfig {
        part: Part { rank: 1, ranks: 3 },
        ..all_bad.config()
    })
    .unwrap();
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(error.contains("not one sample could be used"), "{error}");
}

#[test]
fn shards_drawn_with_replacement_come_several_times_or_not_at_all() {
    let (folder, count) = shards(&[3; 8]);
    let config = DataConfig {
        drawing: Drawing::WithReplacement,
        ..folder.config()
    };
    let (drawn, _) = epochs(&config, Part::WHOLE, 40);
    // As many shards as there are, whole ones.
    assert!(drawn.iter().all(|epoch| epoch.len() == count as usize));
    assert!(
        drawn
            .iter()
            .any(|epoch| epoch.windows(2).any(|pair| pair[0] == pair[1]))
    );
    let seen: BTreeSet<&u32> = drawn.iter().flatten().collect();
    assert_eq!(seen.len(), count as usize);
    // Another seed draws others, the same one the same.
    assert_eq!(epochs(&config, Part::WHOLE, 5).0, drawn[..5]);
    let other = DataConfig { seed: 2, ..config };
    assert_ne!(epochs(&other, Part::WHOLE, 5).0, drawn[..5]);
}

#[test]
fn with_replacement_nothing_is_given_up_before_every_shard_was_tried() {
    // An epoch of ten draws misses the only good one every third time.
    let mut all: Vec<Vec<u8>> = (1..10).map(|n| vec![n; 3000]).collect();
    all.push(sound_shard(0, 2));
    let folder = Folder::of(&all);
    for seed in 0..10 {
        let config = DataConfig {
            drawing: Drawing::WithReplacement,
            seed,
            batch_size: 5,
            ..folder.config()
        };
        assert_eq!(captions(&batches(&mut Loader::new(config).unwrap(), 4)).len(), 20);
    }
}

#[test]
fn a_rank_must_be_one_of_the_ranks() {
    let folder = Folder::sound();
    for part in [Part { rank: 2, ranks: 2 }, Part { rank: 0, ranks: 0 }] {
        let config = DataConfig {
            part,
            ..folder.config()
        };
        let error = Loader::new(config).unwrap_err().to_string();
        assert!(error.contains("the rank must be below"), "{error}");
    }
}
