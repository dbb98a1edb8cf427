//! On the same samples ranks do what one process does: with their batches in one, and with their batches one after
//! another.

use std::path::Path;

use fewstep_data::{Loader, Part};
use fewstep_models::weights::read_tensors;
use fewstep_train::{Ending, data_config};

use super::common::fixtures;
use super::common::runs::{ADAPTERS, AVERAGED_ADAPTERS, WHOLE, losses, options, train};
use super::ranks::run_ranks;

/// Pictures with captions of their own, in shards of so many samples each.
fn shards(folder: &Path, name: &str, samples: &[Vec<usize>]) -> String {
    let mut pictures = Vec::new();
    let mut good = tar::Archive::new(std::fs::File::open(fixtures().join("data/good.tar")).unwrap());
    for entry in good.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry
            .path()
            .unwrap()
            .extension()
            .is_some_and(|ending| ending == "jpg")
        {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            pictures.push(bytes);
        }
    }
    let mut paths = Vec::new();
    for (number, samples) in samples.iter().enumerate() {
        let path = folder.join(format!("{name}-{number}.tar"));
        let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
        for (place, sample) in samples.iter().enumerate() {
            let picture = &pictures[sample % pictures.len()];
            let caption = format!("picture {sample}");
            for (ending, bytes) in [("jpg", &picture[..]), ("txt", caption.as_bytes())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                archive
                    .append_data(&mut header, format!("{place:04}.{ending}"), bytes)
                    .unwrap();
            }
        }
        archive.finish().unwrap();
        paths.push(path.display().to_string());
    }
    paths.join("::")
}

/// Samples of one shard for each rank, and one shard that holds the same samples in the order in which all ranks
/// together see them: so that one process with a batch as long as theirs together sees the same.
fn the_same_data(folder: &Path, ranks: u32, batch: usize, micro_batches: usize) -> (String, String) {
    let each = batch * micro_batches;
    let split: Vec<Vec<usize>> = (0..ranks as usize)
        .map(|shard| (shard * each..(shard + 1) * each).collect())
        .collect();
    let split = shards(folder, "split", &split);
    let mut together = vec![Vec::new(); micro_batches];
    for rank in 0..ranks {
        let batch = batch.to_string();
        let flags = [
            ("train_shards_path_or_url", &*split),
            ("train_batch_size", &*batch),
            ("shuffle_buffer_size", "1"),
        ];
        let mut config = options(folder, &flags);
        config.part = Part {
            rank: rank.into(),
            ranks: ranks.into(),
        };
        let mut loader = Loader::new(data_config(&config)).unwrap();
        for together in &mut together {
            let batch = loader.next_batch().unwrap();
            together.extend(
                batch
                    .captions
                    .iter()
                    .map(|caption| -> usize { caption.strip_prefix("picture ").unwrap().parse().unwrap() }),
            );
        }
    }
    let one = shards(folder, "one", &[together.concat()]);
    (split, one)
}

/// Ten steps of several ranks are those of one process on the same samples: with their batches in one, and with their
/// batches one after another.
fn equals_one_process(ranks: u32, accumulation: usize, flags: &[(&str, &str)], files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let (batch, count) = (2, ranks as usize);
    let (split, joined) = the_same_data(folder.path(), ranks, batch, 10 * accumulation);
    let config = |name: &str, shards: &str, batch: usize, accumulation: usize| {
        let (batch, accumulation) = (batch.to_string(), accumulation.to_string());
        let mut all = vec![
            ("train_shards_path_or_url", shards),
            ("train_batch_size", &*batch),
            ("gradient_accumulation_steps", &*accumulation),
            ("shuffle_buffer_size", "1"),
            ("max_train_steps", "10"),
            ("checkpointing_steps", "5"),
            ("lr_scheduler", "cosine"),
            ("lr_warmup_steps", "3"),
            // Adam divides a gradient by its own size, which makes whole steps of rounding errors in tiny ones.
            ("adam_epsilon", "1e-2"),
        ];
        all.extend(flags);
        options(&out(name), &all)
    };
    let in_one = train(&config("in one", &joined, batch * count, accumulation));
    let in_turn = train(&config("in turn", &joined, batch, accumulation * count));
    let outcomes = run_ranks(vec![config("several", &split, batch, accumulation); count]);
    for (outcome, _) in outcomes {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.ending, outcome.steps), (Ending::Finished, 10));
        assert_eq!(
            (outcome.samples, outcome.samples),
            (in_one.samples, in_turn.samples)
        );
    }
    let got = losses(&out("several"));
    assert_eq!(got.len(), 10);
    for name in ["in one", "in turn"] {
        for ((step, loss), (_, wanted)) in got.iter().zip(losses(&out(name))) {
            assert!(
                (loss - wanted).abs() < 1e-5 * wanted,
                "step {step}: {loss} {wanted}"
            );
        }
        for file in files {
            let read = |name: &str| read_tensors(&out(name).join(file)).unwrap();
            let (got, wanted) = (read("several"), read(name));
            let square = |tensor: &tch::Tensor| tensor.square().sum(tch::Kind::Double).double_value(&[]);
            let (mut off, mut all) = (0.0, 0.0);
            for (name, wanted) in &wanted {
                let (its_off, its_all) = (square(&(&got[name] - wanted)), square(wanted));
                (off, all) = (off + its_off, all + its_all);
            }
            let share = (off / all).sqrt();
            assert!(share < 1e-6, "{file} is off by {share:e}");
            if name == "in one" {
                // By tensor some are off by more, whose gradients nearly cancel. One process that takes its batch in
                // parts is off just as far, which is rounding and not the ranks'.
                let control = read("in turn");
                let norm = |tensor: &tch::Tensor| square(tensor).sqrt();
                for (tensor, wanted) in &wanted {
                    let off = norm(&(&got[tensor] - wanted));
                    let control = norm(&(&control[tensor] - wanted));
                    let one_unit = 2e-7 * norm(wanted);
                    assert!(
                        off <= 3.0 * control + one_unit,
                        "{file}: {tensor} is off by {off:e}, in parts by {control:e}"
                    );
                }
            }
            if name == "in turn" && (ranks, accumulation) == (2, 1) {
                // The very same passes, and of two numbers there is but one sum.
                assert_eq!(share, 0.0, "{file}");
            }
        }
    }
}

#[test]
fn ranks_do_what_one_process_does_with_all_their_samples() {
    for (ranks, accumulation) in [(2, 1), (3, 1), (2, 2)] {
        equals_one_process(ranks, accumulation, &[], &WHOLE);
    }
}

#[test]
fn so_do_ranks_that_train_adapters() {
    let flags = [("lora_rank", "2"), ("ema_decay", "0.9")];
    for (ranks, accumulation) in [(2, 1), (3, 2)] {
        equals_one_process(ranks, accumulation, &flags, &[ADAPTERS, AVERAGED_ADAPTERS]);
    }
}
