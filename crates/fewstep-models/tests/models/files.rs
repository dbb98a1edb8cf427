//! Weights to files and back: dtypes, layouts, shards, variants, and what happens to files of another save.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::common::fixture;
use fewstep_models::params::{Init, Layout, Weights};
use fewstep_models::weights::{
    Component, DIFFUSERS_STEM, Folder, Key, MAX_SHARD_BYTES, TensorFile, read_tensors, save_component,
    write_tensors,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A layout with the names and shapes of a file.
fn layout_of(tensors: &BTreeMap<String, Tensor>) -> Arc<Layout> {
    let declare = |root: &fewstep_models::params::Path<'_>| {
        for (name, tensor) in tensors {
            root.param(name, &tensor.size(), Init::Zeros);
        }
    };
    Layout::build(declare).1
}

/// A network of three parameters.
fn three() -> Weights {
    let declare = |root: &fewstep_models::params::Path<'_>| {
        root.param("a.weight", &[4, 3], Init::Uniform(1.0));
        root.param("a.bias", &[4], Init::Uniform(1.0));
        root.param("b", &[2, 5], Init::Uniform(1.0));
    };
    Weights::random(&Layout::build(declare).1, Device::Cpu)
}

fn load(path: &Path, layout: &Arc<Layout>) -> Weights {
    Component::open(path)
        .unwrap()
        .load(layout, Kind::Float, Device::Cpu)
        .unwrap()
}

fn assert_same(a: &Weights, b: &Weights) {
    for ((name, a), (_, b)) in a.named().zip(b.named()) {
        assert!(a.equal(b), "{name}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn shards_and_variants_hold_the_same_weights() {
    let root = fixture("models/loader");
    let full = read_tensors(&root.join("full/unet/diffusion_pytorch_model.safetensors")).unwrap();
    let layout = layout_of(&full);
    let load = |name: &str| {
        let folder = Folder::open(&root.join(name)).unwrap();
        let unet = folder.component("unet").unwrap();
        unet.load(&layout, Kind::Float, Device::Cpu).unwrap()
    };
    let full = load("full");
    assert_same(&full, &load("sharded"));
    let rounded = full.to_kind(Kind::Half).to_kind(Kind::Float);
    assert_same(&rounded, &load("fp16"));
}

#[test]
fn a_tensor_is_cast_once_from_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let weights = three();
    save_component(folder.path(), &json!({}), &weights, "model", MAX_SHARD_BYTES).unwrap();
    let component = Component::open(folder.path()).unwrap();
    let half = component
        .load(weights.layout(), Kind::BFloat16, Device::Cpu)
        .unwrap();
    assert_eq!(half.kind(), Kind::BFloat16);
    assert_same(&weights.to_kind(Kind::BFloat16), &half);
}

#[test]
fn every_dtype_and_layout_survives_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors.safetensors");
    let grid = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]) - 3.5;
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for kind in [
        Kind::Double,
        Kind::Float,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
    ] {
        tensors.insert(format!("{kind:?}"), grid.to_kind(kind));
    }
    tensors.insert("Uint8".into(), (&grid + 3.5).to_kind(Kind::Uint8));
    tensors.insert("Bool".into(), grid.gt(0.0));
    tensors.insert("transposed".into(), grid.tr());
    tensors.insert("narrowed".into(), grid.narrow(1, 1, 2));
    tensors.insert(
        "channels_last".into(),
        grid.view([1, 3, 2, 2]).permute([0, 2, 3, 1]),
    );
    tensors.insert("expanded".into(), grid.narrow(1, 0, 1).expand([3, 7], false));
    tensors.insert("scalar".into(), Tensor::from(2.5f32));
    tensors.insert("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)));
    tensors.insert("tracked".into(), grid.copy().set_requires_grad(true) * 2.0);
    let metadata = BTreeMap::from([("key".to_owned(), "value \"quoted\"".to_owned())]);
    write_tensors(
        &path,
        tensors.iter().map(|(name, t)| (name.as_str(), t)),
        &metadata,
    )
    .unwrap();

    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata(), &metadata);
    let again = read_tensors(&path).unwrap();
    assert_eq!(again.len(), tensors.len());
    for (name, tensor) in &tensors {
        assert_eq!(again[name].kind(), tensor.kind(), "{name}");
        assert_eq!(again[name].size(), tensor.size(), "{name}");
        assert!(again[name].equal(tensor), "{name}");
    }
}

#[test]
fn the_same_tensors_make_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let weights = three();
    let metadata = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
    let bytes = |name: &str| {
        let path = folder.path().join(name);
        write_tensors(&path, weights.named(), &metadata).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(bytes("one.safetensors"), bytes("two.safetensors"));
    assert_eq!(names(folder.path()), ["one.safetensors", "two.safetensors"]);
}

#[test]
fn large_weights_are_sharded_with_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unet");
    let weights = three();
    // 48 and 16 bytes fill the first shard, 40 bytes are above what is left of it.
    save_component(&path, &json!({"a": 1}), &weights, DIFFUSERS_STEM, 64).unwrap();
    let index = fs::read_to_string(path.join("diffusion_pytorch_model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], 104);
    assert_eq!(
        index["weight_map"],
        json!({
            "a.weight": "diffusion_pytorch_model-00001-of-00002.safetensors",
            "a.bias": "diffusion_pytorch_model-00001-of-00002.safetensors",
            "b": "diffusion_pytorch_model-00002-of-00002.safetensors",
        })
    );
    assert_same(&weights, &load(&path, weights.layout()));
}

#[test]
fn an_earlier_save_leaves_nothing_that_a_reader_would_prefer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (first, second, third) = (three(), three(), three());
    save_component(path, &json!({}), &first, DIFFUSERS_STEM, 1).unwrap();
    assert_eq!(names(path).len(), 5);
    fs::write(path.join("diffusion_pytorch_model.bin"), "kept").unwrap();
    save_component(path, &json!({}), &second, DIFFUSERS_STEM, MAX_SHARD_BYTES).unwrap();
    let kept = [
        "config.json",
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.safetensors",
    ];
    assert_eq!(names(path), kept);
    assert_same(&second, &load(path, second.layout()));
    save_component(path, &json!({}), &third, DIFFUSERS_STEM, 64).unwrap();
    assert!(!path.join("diffusion_pytorch_model.safetensors").exists());
    assert_same(&third, &load(path, third.layout()));
}

#[test]
fn a_key_map_renames_ignores_and_flattens() {
    let folder = tempfile::tempdir().unwrap();
    let weights = three();
    let stored = [
        ("old.weight", weights.get("a.weight").unwrap().view([4, 3, 1, 1])),
        ("old.bias", weights.get("a.bias").unwrap().shallow_clone()),
        ("b", weights.get("b").unwrap().shallow_clone()),
        ("position_ids", Tensor::arange(3, (Kind::Int64, Device::Cpu))),
    ];
    let path = folder.path().join("model.safetensors");
    write_tensors(&path, stored.iter().map(|(name, t)| (*name, t)), &BTreeMap::new()).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let component = Component::open(folder.path()).unwrap();
    let key = |name: &str| match name {
        "old.weight" => Key::Matrix("a.weight".into()),
        "old.bias" => Key::Is("a.bias".into()),
        "position_ids" => Key::Ignored,
        other => Key::Is(other.into()),
    };
    let loaded = component.load_with(weights.layout(), Kind::Float, Device::Cpu, key);
    assert_same(&weights, &loaded.unwrap());
}
