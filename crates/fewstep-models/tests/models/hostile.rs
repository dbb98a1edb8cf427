//! Files that are broken, wrong or hostile: each must end in an error that names the file and what is wrong,
//! never in a panic or in memory asked for on a file's word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::common::fixture;
use fewstep_models::clip::ClipTextConfig;
use fewstep_models::params::{Init, Layout};
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::unet::UNetConfig;
use fewstep_models::vae::VaeConfig;
use fewstep_models::weights::{Component, Folder, ModelError, read_tensors, write_tensors};
use serde_json::json;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// A safetensors file with this header and these bytes after it.
fn file(folder: &TempDir, header: &str, data: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join("model.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(&path, bytes).unwrap();
    path
}

/// What reading a file ends in; its path must be named.
#[track_caller]
fn error(path: &Path) -> String {
    let text = read_tensors(path).unwrap_err().to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

/// Loads a network with `weight` [2, 2] and `bias` [2].
fn load_two(folder: &Path) -> Result<(), ModelError> {
    let layout = Layout::build(|root| {
        root.param("weight", &[2, 2], Init::Zeros);
        root.param("bias", &[2], Init::Zeros);
    });
    fs::write(folder.join("config.json"), "{}").unwrap();
    let component = Component::open(folder)?;
    component.load(&layout.1, Kind::Float, Device::Cpu).map(|_| ())
}

fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    write_tensors(path, tensors.iter().map(|(name, t)| (*name, t)), &BTreeMap::new()).unwrap();
}

fn zeros(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::zeros(shape, (kind, Device::Cpu))
}

#[test]
fn headers_that_lie() {
    let folder = TempDir::new().unwrap();
    for (header, data, said) in [
        // Two tensors share bytes.
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "offset",
        ),
        // A hole between two tensors.
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            12,
            "offset",
        ),
        // An end before its begin.
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            4,
            "offset",
        ),
        // More numbers than bytes.
        (
            r#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,8]}}"#,
            8,
            "shape",
        ),
        // A product of sizes that overflows.
        (
            r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]}}"#,
            8,
            "overflow",
        ),
        // No numbers, but a size that LibTorch cannot count.
        (
            r#"{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}"#,
            0,
            "`a` is too large",
        ),
        // Bytes that nobody owns, and bytes that are missing.
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            9,
            "need 4 bytes, 9 bytes follow",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            8,
            "need 16 bytes, 8 bytes follow",
        ),
        // Negative and absurd numbers.
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            4,
            "header is wrong",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e30]}}"#,
            4,
            "header is wrong",
        ),
        // No dtype of this name; one that we do not read.
        (
            r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "header is wrong",
        ),
        (
            r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
            4,
            "not supported",
        ),
        // Not JSON, and not an object.
        (r#"{"a":"#, 4, "header is wrong"),
        ("[]", 0, "header is wrong"),
        ("", 0, "header is wrong"),
    ] {
        let path = file(&folder, header, &vec![0; data]);
        let text = error(&path);
        assert!(text.contains(said), "{header}: {text}");
    }
}

#[test]
fn files_that_are_not_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    for (bytes, said) in [
        (vec![], "0 bytes, too few"),
        (vec![1, 2, 3], "3 bytes, too few"),
        (
            u64::MAX.to_le_bytes().to_vec(),
            "claims 18446744073709551615 bytes, 0 bytes follow",
        ),
        (99_000_000u64.to_le_bytes().to_vec(), "claims 99000000 bytes"),
        (vec![0xff; 64], "claims"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let text = error(&path);
        assert!(text.contains(said), "{text}");
    }
    write(&path, &[("weight", zeros(&[64], Kind::Float))]);
    let whole = fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..len]).unwrap();
        error(&path);
    }
}

#[test]
fn any_flipped_byte_of_a_header_is_an_error_or_harmless() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    write(
        &path,
        &[
            ("weight", zeros(&[2, 3], Kind::Half)),
            ("on", zeros(&[5], Kind::Bool)),
        ],
    );
    let whole = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for place in 0..8 + header {
        for flip in [0x01, 0x10, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            fs::write(&path, &bytes).unwrap();
            // What matters is that it returns.
            let _ = read_tensors(&path);
        }
    }
}

#[test]
fn numbers_at_odd_places_are_read() {
    let folder = TempDir::new().unwrap();
    // The header's length is odd, so the numbers lie at odd places of the file.
    let mut header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_owned();
    while header.len().is_multiple_of(2) {
        header.push(' ');
    }
    let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors = read_tensors(&file(&folder, &header, &data)).unwrap();
    assert_eq!(Vec::<f32>::try_from(&tensors["a"]).unwrap(), [1.5, -2.0]);
}

#[test]
fn stored_truths_other_than_zero_and_one_are_true() {
    let folder = TempDir::new().unwrap();
    let header = r#"{"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#;
    let tensors = read_tensors(&file(&folder, header, &[0, 1, 7])).unwrap();
    assert_eq!(Vec::<bool>::try_from(&tensors["a"]).unwrap(), [false, true, true]);
}

#[test]
fn all_that_does_not_fit_is_one_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    write(
        &path,
        &[
            ("weight", zeros(&[2, 3], Kind::Float)),
            ("other", zeros(&[7], Kind::Float)),
        ],
    );
    let text = load_two(folder.path()).unwrap_err().to_string();
    for said in [
        path.to_str().unwrap(),
        "1 missing (bias [2])",
        "1 unexpected (other [7])",
        "1 of the wrong shape (weight is [2, 3], wanted [2, 2])",
    ] {
        assert!(text.contains(said), "{text}");
    }
    // A convolution where a matrix is wanted is another network, unless a key map says otherwise.
    write(
        &path,
        &[
            ("weight", zeros(&[2, 2, 1, 1], Kind::Float)),
            ("bias", zeros(&[2], Kind::Int64)),
        ],
    );
    let text = load_two(folder.path()).unwrap_err().to_string();
    assert!(text.contains("weight is [2, 2, 1, 1], wanted [2, 2]"), "{text}");
    assert!(
        text.contains("1 of the wrong dtype (bias is I64, wanted floating point)"),
        "{text}"
    );
}

#[test]
fn pickles_are_refused_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("diffusion_pytorch_model.bin"), "x").unwrap();
    let text = load_two(folder.path()).unwrap_err().to_string();
    assert!(text.contains("diffusion_pytorch_model.bin"), "{text}");
    assert!(text.contains("safe_serialization=True"), "{text}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = TempDir::new().unwrap();
    let text = load_two(folder.path()).unwrap_err().to_string();
    assert!(
        text.contains("diffusion_pytorch_model.safetensors does not exist"),
        "{text}"
    );
    let nowhere = folder.path().join("nowhere");
    let text = Folder::open(&nowhere).unwrap_err().to_string();
    assert!(text.contains("nowhere does not exist"), "{text}");
    let open = Folder::open(folder.path()).unwrap();
    let text = open.component("unet").unwrap_err().to_string();
    assert!(text.contains("unet does not exist"), "{text}");
    fs::create_dir(folder.path().join("vae")).unwrap();
    let text = open.component("vae").unwrap_err().to_string();
    assert!(text.contains("vae/config.json does not exist"), "{text}");
    fs::write(folder.path().join("vae/config.json"), "{\"a\": ").unwrap();
    let text = open.component("vae").unwrap_err().to_string();
    assert!(text.contains("vae/config.json is not valid JSON"), "{text}");
    let text = Folder::open(&folder.path().join("config.json"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("config.json is not a folder"), "{text}");
}

#[test]
fn an_index_stays_in_its_folder_and_tells_the_truth() {
    let outside = TempDir::new().unwrap();
    write(
        &outside.path().join("outside.safetensors"),
        &[
            ("weight", zeros(&[2, 2], Kind::Float)),
            ("bias", zeros(&[2], Kind::Float)),
        ],
    );
    let folder = outside.path().join("inside");
    fs::create_dir(&folder).unwrap();
    write(
        &folder.join("shard.safetensors"),
        &[("weight", zeros(&[2, 2], Kind::Float))],
    );
    let index = folder.join("model.safetensors.index.json");
    let absolute = outside.path().join("outside.safetensors");
    for (text, said) in [
        (
            r#"{"weight_map": {"weight": "../outside.safetensors"}}"#.to_owned(),
            "not a file in its own folder",
        ),
        (
            format!(r#"{{"weight_map": {{"weight": {absolute:?}}}}}"#),
            "not a file in its own folder",
        ),
        (
            r#"{"weight_map": {"weight": ".."}}"#.to_owned(),
            "not a file in its own folder",
        ),
        (
            r#"{"weight_map": {"weight": ""}}"#.to_owned(),
            "not a file in its own folder",
        ),
        (
            r#"{"weight_map": {"weight": "absent.safetensors"}}"#.to_owned(),
            "absent.safetensors does not exist",
        ),
        (r#"{"weight_map": {"weight": 3}}"#.to_owned(), "not a file name"),
        (r#"{"weight_map": []}"#.to_owned(), "no `weight_map`"),
        (
            r#"{"weight_map": {"bias": "shard.safetensors"}}"#.to_owned(),
            "but it does not",
        ),
        (
            r#"{"weight_map": {"weight": "shard.safetensors"}}"#.to_owned(),
            "1 missing (bias [2])",
        ),
        (r#"{"weight_map": "#.to_owned(), "not valid JSON"),
    ] {
        fs::write(&index, &text).unwrap();
        let error = load_two(&folder).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
        assert!(error.contains("model.safetensors.index.json"), "{text}: {error}");
    }
}

#[test]
fn a_fixture_with_a_foreign_configuration_is_told_apart() {
    let component = Component::open(&fixture("models/tiny-sd/vae")).unwrap();
    let layout = Layout::build(|root| root.param("weight", &[2, 2], Init::Zeros));
    let error = component.load(&layout.1, Kind::Float, Device::Cpu).unwrap_err();
    assert!(matches!(error, ModelError::Mismatch { .. }));
    assert!(error.to_string().contains("1 missing (weight [2, 2])"));
    assert!(error.to_string().contains("more)"));
}

/// Numbers that would be tables, or millions of names, before any tensor is looked at.
#[test]
fn a_configuration_cannot_ask_for_much_memory() {
    let huge = 1u64 << 24;
    let scheduler = SchedulerConfig::from_json(&json!({"num_train_timesteps": 1u64 << 50})).unwrap();
    let text = NoiseSchedule::new(&scheduler).unwrap_err().to_string();
    assert!(text.contains("num_train_timesteps"), "{text}");
    let unet = |option: &str| {
        UNetConfig::from_json(&json!({option: huge}))
            .unwrap_err()
            .to_string()
    };
    for option in ["layers_per_block", "transformer_layers_per_block"] {
        assert!(unet(option).contains(option), "{}", unet(option));
    }
    let text = VaeConfig::from_json(&json!({"layers_per_block": huge}))
        .unwrap_err()
        .to_string();
    assert!(text.contains("layers_per_block"), "{text}");
    let text = ClipTextConfig::from_json(&json!({"num_hidden_layers": huge}))
        .unwrap_err()
        .to_string();
    assert!(text.contains("num_hidden_layers"), "{text}");
    // Widths beyond all measure are counted without overflow; that no file has them shows when it is opened.
    let layout = Layout::build(|root| {
        root.param("weight", &[1 << 24, 1 << 24, 1 << 24], Init::Zeros);
    });
    assert_eq!(layout.1.elements(), i64::MAX);
}
