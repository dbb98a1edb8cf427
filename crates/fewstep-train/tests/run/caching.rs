//! Runs with a cache of latents and embeddings: the same as without one, whatever is in it.

use std::fs;
use std::path::{Path, PathBuf};

use fewstep_data::cache::Note;
use fewstep_train::fill::{FillObserver, Filled, Filling, fill};
use fewstep_train::{Config, Event, Stop, run};

use crate::common::fixtures;
use crate::common::runs::{Told, WHOLE, error, losses, options, same_tensors, train};

/// Options under which pictures come again; the VAE encodes one picture at a time, as it does with a cache.
fn with<'a>(flags: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let all = [
        ("cache_crops", "2"),
        ("vae_encode_batch_size", "1"),
        ("min_size", "0"),
    ];
    all.into_iter()
        .filter(|(name, _)| !flags.iter().any(|(other, _)| other == name))
        .chain(flags.iter().copied())
        .collect()
}

fn filled(config: &Config) -> Filled {
    fill(config, &Stop::new(), &mut ()).unwrap()
}

fn same_runs(one: &Path, other: &Path) {
    assert_eq!(losses(one), losses(other));
    assert_eq!(losses(one).len(), 6);
    for file in WHOLE {
        same_tensors(&one.join(file), &other.join(file));
    }
}

/// A run without a cache, one that fills its cache, one that reads it, and one after `fewstep cache` are the same.
fn caches_change_nothing(flags: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let (cache, ahead) = (out("cache"), out("ahead"));
    let run = |name: &str, more: &[(&str, &str)]| {
        let all = [&with(flags)[..], more].concat();
        train(&options(&out(name), &all));
    };
    run("without", &[]);
    let dir = ("cache_dir", cache.to_str().unwrap());
    run("filling", &[dir]);
    run("reading", &[dir, ("dataloader_num_workers", "2")]);
    let dir = ("cache_dir", ahead.to_str().unwrap());
    let config = options(&out("unused"), &[&with(flags)[..], &[dir]].concat());
    let first = filled(&config);
    assert!(first.complete && first.filling.made > 0);
    run("after", &[dir]);
    // Nothing was missing.
    let again = filled(&config);
    assert_eq!(again.filling.made, 0);
    assert_eq!(again.filling.usage, first.filling.usage);
    for name in ["filling", "reading", "after"] {
        same_runs(&out("without"), &out(name));
    }
}

#[test]
fn runs_with_a_cache_are_those_without() {
    caches_change_nothing(&[]);
}

#[test]
fn so_are_those_of_sdxl_in_bf16_with_the_middle_cropped() {
    let sdxl = fixtures().join("models/tiny-sdxl");
    let mut config = with(&[
        ("pretrained_teacher_model", sdxl.to_str().unwrap()),
        ("mixed_precision", "bf16"),
        ("center_crop", ""),
    ]);
    config.retain(|(name, _)| *name != "cache_crops");
    let folder = tempfile::tempdir().unwrap();
    let (a, b, cache) = (
        folder.path().join("a"),
        folder.path().join("b"),
        folder.path().join("c"),
    );
    train(&options(&a, &config));
    config.push(("cache_dir", cache.to_str().unwrap()));
    filled(&options(&b, &config));
    train(&options(&b, &config));
    same_runs(&a, &b);
}

#[test]
fn a_run_with_a_cache_goes_on_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let flags = with(&[("cache_dir", cache.to_str().unwrap())]);
    super::resumes_bit_by_bit(&flags, &WHOLE);
}

#[test]
fn a_run_may_go_on_without_its_cache_but_not_with_other_crops() {
    let folder = tempfile::tempdir().unwrap();
    let (out, cache) = (folder.path().join("out"), folder.path().join("cache"));
    let dir = ("cache_dir", cache.to_str().unwrap());
    train(&options(&out, &with(&[dir, ("max_train_steps", "3")])));
    let said = error(&options(&out, &with(&[dir, ("cache_crops", "3")])));
    assert!(said.contains("cache_crops is 2 there and 3 here"), "{said}");
    train(&options(&out, &with(&[])));
    let straight = folder.path().join("straight");
    train(&options(&straight, &with(&[])));
    same_runs(&straight, &out);
}

/// tiny-sd's VAE, with one number changed.
fn other_vae(folder: &Path) -> PathBuf {
    let (from, to) = (fixtures().join("models/tiny-sd/vae"), folder.join("vae"));
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            // The lowest bits of the last number.
            let last = bytes.len() - 4;
            bytes[last] ^= 1;
        }
        fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
    to
}

#[test]
fn whatever_is_changed_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let dir = ("cache_dir", cache.to_str().unwrap());
    let made = |flags: &[(&str, &str)]| {
        let filled = filled(&options(
            &folder.path().join("out"),
            &with(&[&[dir], flags].concat()),
        ));
        (filled.filling.made, filled.filling.known)
    };
    // Some captions come twice.
    let (new, twice) = made(&[]);
    let all = new + twice;
    let captions = made(&[("resolution", "40")]).1;
    assert!(captions > twice && captions < all);
    let vae = other_vae(folder.path());
    for changed in [
        ("interpolation_type", "bicubic"),
        ("pretrained_vae_model_name_or_path", vae.to_str().unwrap()),
        ("vae_precision", "bf16"),
    ] {
        assert_eq!(made(&[changed]), (all - captions, captions), "{changed:?}");
    }
    // Another dtype makes other embeddings, and the VAE has its own.
    assert_eq!(
        made(&[("mixed_precision", "bf16"), ("vae_precision", "no")]).0,
        captions - twice
    );
    // More crops are those before and more; the seed has no part in them.
    let (more, known) = made(&[("cache_crops", "3"), ("seed", "5")]);
    assert!(more > 0 && known == all, "{more} {known}");
    assert_eq!(made(&[]), (0, all));
}

#[test]
fn filling_goes_on_where_it_was_interrupted() {
    struct StopAt(Stop);
    impl FillObserver for StopAt {
        fn progress(&mut self, filling: &Filling) {
            if filling.pictures == 3 {
                self.0.ask();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let config = |cache: &str| {
        let cache = folder.path().join(cache);
        options(
            &folder.path().join("out"),
            &with(&[("cache_dir", cache.to_str().unwrap())]),
        )
    };
    let whole = filled(&config("whole"));
    let stop = Stop::new();
    let broken = fill(&config("broken"), &stop, &mut StopAt(stop.clone())).unwrap();
    assert!(!broken.complete && broken.filling.pictures == 3);
    let rest = filled(&config("broken"));
    assert!(rest.complete && rest.filling.known >= broken.filling.made);
    assert_eq!(broken.filling.made + rest.filling.made, whole.filling.made);
    assert_eq!(rest.filling.usage.entries, whole.filling.usage.entries);
}

#[test]
fn a_cache_that_is_full_or_damaged_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    train(&options(&out("without"), &with(&[])));
    let notes = |name: &str, max: &str| {
        let cache = out("cache");
        let flags = with(&[("cache_dir", cache.to_str().unwrap()), ("cache_max_gb", max)]);
        let mut told = Told::default();
        run(&options(&out(name), &flags), &Stop::new(), &mut told).unwrap();
        same_runs(&out("without"), &out(name));
        let note = |event| match event {
            Event::CacheNote(note) => Some(note),
            _ => None,
        };
        told.events.into_iter().filter_map(note).collect::<Vec<_>>()
    };
    let full = notes("full", "0.00005");
    assert!(matches!(full[..], [Note::Full { .. }]), "{full:?}");
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    let files = || {
        fs::read_dir(out("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    assert!((1..=50_000).contains(&files().map(size).sum::<u64>()));
    assert_eq!(notes("fills", "1"), []);
    for path in files() {
        let mut bytes = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[header..].iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(path, bytes).unwrap();
    }
    let damaged = notes("damaged", "1");
    assert!(
        !damaged.is_empty() && damaged.iter().all(|note| matches!(note, Note::Damaged { .. })),
        "{damaged:?}"
    );
    assert_eq!(notes("mended", "1"), []);
}
