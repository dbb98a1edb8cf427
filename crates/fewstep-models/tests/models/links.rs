//! A model's folder is a stranger's: its links lead to nothing outside it, and what is no plain file is not read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::common::fixture;
use fewstep_models::lora::{LoraFile, ReadOptions};
use fewstep_models::pipeline::TextEncoders;
use fewstep_models::schedule::SchedulerConfig;
use fewstep_models::unet::UNetConfig;
use fewstep_models::vae::AutoencoderKl;
use fewstep_models::weights::{Component, Folder, ModelError};
use tch::{Device, Kind};
use tempfile::TempDir;

/// Copies a folder; `place` puts a file where it belongs, given where it comes from and where it would go.
fn copy(from: &Path, to: &Path, place: &dyn Fn(&Path, &Path)) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target, place),
            false => place(&entry.path(), &target),
        }
    }
}

fn plain(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

/// Reads every part of a model that training reads.
fn load_all(model: &Path) -> Result<(), ModelError> {
    let folder = Folder::open(model)?;
    SchedulerConfig::load(&folder.part("scheduler")?)?;
    TextEncoders::load(&folder, Kind::Float, Device::Cpu)?;
    AutoencoderKl::load(&folder.component("vae")?, Kind::Float, Device::Cpu)?;
    folder.component("unet")?.parse(UNetConfig::from_json)?;
    Ok(())
}

#[test]
fn no_link_leads_out_of_a_model() {
    let outside = TempDir::new().unwrap();
    let original = fixture("models/tiny-sd");
    for part in [
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "scheduler",
        "tokenizer",
        "vae",
    ] {
        let model = TempDir::new().unwrap();
        let model = model.path().join("model");
        copy(&original, &model, &plain);
        load_all(&model).unwrap();
        let (inside, away) = (model.join(part), outside.path().join(part.replace('/', "-")));
        fs::rename(&inside, &away).unwrap();
        symlink(&away, &inside).unwrap();
        let text = load_all(&model).unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains("leads out of its folder"),
            "{part}: {text}"
        );
        assert!(text.contains(away.to_str().unwrap()), "{part}: {text}");
    }
    // A link within its folder, and a folder that its owner reaches by a link, are nobody's harm.
    let model = outside.path().join("model");
    copy(&original, &model, &plain);
    let config = model.join("unet/config.json");
    fs::rename(&config, model.join("unet/own.json")).unwrap();
    symlink("own.json", &config).unwrap();
    symlink("model", outside.path().join("link")).unwrap();
    load_all(&outside.path().join("link")).unwrap();
}

#[test]
fn the_hubs_cache_is_read_through_its_links() {
    let cache = TempDir::new().unwrap();
    let model = cache.path().join("models--a--b");
    let (snapshot, blobs) = (model.join("snapshots/0123abc"), model.join("blobs"));
    fs::create_dir_all(&blobs).unwrap();
    let original = fixture("models/tiny-sd");
    let as_the_hub_does = |from: &Path, to: &Path| {
        let name = from
            .strip_prefix(&original)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('/', "-");
        fs::copy(from, blobs.join(&name)).unwrap();
        let depth = to.strip_prefix(&snapshot).unwrap().components().count();
        symlink(Path::new(&"../".repeat(depth + 1)).join("blobs").join(&name), to).unwrap();
    };
    copy(&original, &snapshot, &as_the_hub_does);
    load_all(&snapshot).unwrap();
    // A component that is named itself.
    let unet = Component::open(&snapshot.join("unet")).unwrap();
    unet.parse(UNetConfig::from_json).unwrap();

    // Blobs that are not there but elsewhere are no part of the cache.
    let away = TempDir::new().unwrap();
    let elsewhere: PathBuf = away.path().join("blobs");
    fs::rename(&blobs, &elsewhere).unwrap();
    symlink(&elsewhere, &blobs).unwrap();
    let text = load_all(&snapshot).unwrap_err().to_string();
    assert!(text.contains("leads out of its folder"), "{text}");
}

#[test]
fn what_is_no_plain_file_or_far_too_long_is_not_read() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    copy(&fixture("models/tiny-sd"), &model, &plain);
    let config = model.join("unet/config.json");
    fs::remove_file(&config).unwrap();
    // Opening it would wait for somebody who writes.
    let made = std::process::Command::new("mkfifo")
        .arg(&config)
        .status()
        .unwrap();
    assert!(made.success());
    let text = load_all(&model).unwrap_err().to_string();
    assert!(text.contains("unet/config.json is not a plain file"), "{text}");
    fs::remove_file(&config).unwrap();
    fs::File::create(&config).unwrap().set_len(1 << 40).unwrap();
    let text = load_all(&model).unwrap_err().to_string();
    assert!(
        text.contains("unet/config.json has 1099511627776 bytes"),
        "{text}"
    );
}

#[test]
fn a_lora_in_a_folder_is_no_link_out_of_it_but_a_named_file_may_be_one() {
    let folder = TempDir::new().unwrap();
    let file = fixture("lora/diffusers.safetensors");
    let link = folder.path().join("pytorch_lora_weights.safetensors");
    symlink(file.canonicalize().unwrap(), &link).unwrap();
    let options = ReadOptions::default();
    let text = LoraFile::examine(folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert!(text.contains("leads out of its folder"), "{text}");
    LoraFile::examine(&link, &options).unwrap();
}
