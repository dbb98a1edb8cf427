//! Any names and settings as a file of adapters. Each line of the input is a tensor: its name, its shape, its dtype if
//! that is not F32, as in `unet.conv_in.lora_A.weight 4,4,3,3 BF16`; or after `#` the file's metadata, or after `@` an
//! adapter_config.json. What is read is written in both forms, and must be the same when it is read again.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fewstep_fuzz::{file, folder};
use fewstep_models::lora::{LoraFile, LoraModule, ReadOptions, write_diffusers, write_kohya};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// The most bytes of all tensors together.
const MOST_BYTES: usize = 1 << 16;

fuzz_target!(|input: &str| {
    let Some(path) = write(input) else { return };
    let options = ReadOptions {
        layers_per_block: input.len() % 4,
        alpha: None,
    };
    let _ = LoraFile::examine(&path, &options);
    let Ok(read) = LoraFile::read(&path) else { return };
    let modules: usize = read.parts().iter().map(|(_, modules)| modules.len()).sum();
    assert!(modules > 0, "a file without an adapter is to be told");
    let written = folder().join("written.safetensors");
    write_diffusers(&written, &read.parts()).expect("it can be written");
    compare(&read, &written, 1e-12);
    if write_kohya(&written, &read.parts()).is_ok() {
        // There an alpha is an f32.
        compare(&read, &written, 1e-6);
    }
});

/// Makes a file of the lines; `None` where they describe none.
fn write(input: &str) -> Option<std::path::PathBuf> {
    let mut header = Map::new();
    let mut settings = None;
    let mut end = 0;
    for line in input.lines() {
        if let Some(metadata) = line.strip_prefix('#') {
            header.insert("__metadata__".into(), json!({"lora_adapter_metadata": metadata}));
        } else if let Some(text) = line.strip_prefix('@') {
            settings = Some(text);
        } else {
            let mut words = line.rsplitn(3, ' ').collect::<Vec<_>>();
            words.reverse();
            let (name, shape, dtype) = match *words {
                [name, shape, dtype] => (name, shape, dtype),
                [name, shape] => (name, shape, "F32"),
                _ => return None,
            };
            let shape: Vec<usize> = shape
                .split(',')
                .filter(|n| !n.is_empty())
                .map(|n| n.parse().ok())
                .collect::<Option<_>>()?;
            let bytes = match dtype {
                "F32" | "I32" => 4,
                "F16" | "BF16" => 2,
                "F64" | "I64" => 8,
                "U8" | "BOOL" => 1,
                _ => return None,
            };
            let size = shape
                .iter()
                .try_fold(bytes, |size: usize, &n| size.checked_mul(n))?;
            let begin = end;
            end += size;
            if end > MOST_BYTES {
                return None;
            }
            header.insert(
                name.into(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}),
            );
        }
    }
    match settings {
        Some(text) => drop(file("lora/adapter_config.json", text.as_bytes())),
        None => drop(fs::remove_file(folder().join("lora/adapter_config.json"))),
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    // Bytes of a number that is finite and above zero in every dtype.
    bytes.resize(bytes.len() + end, 0x3c);
    Some(file("lora/adapter.safetensors", &bytes))
}

fn compare(read: &LoraFile, written: &Path, tolerance: f64) {
    let again = LoraFile::read(written).expect("what is written can be read");
    for (part, modules) in read.parts() {
        let others = again.modules(part);
        assert_eq!(names(modules), names(others));
        for ((name, module), other) in modules.iter().zip(others.values()) {
            assert!(module.a == other.a && module.b == other.b, "{name}");
            let off = (module.alpha - other.alpha).abs();
            assert!(
                off <= tolerance * module.alpha.abs(),
                "{name}: {} {}",
                module.alpha,
                other.alpha
            );
        }
    }
    assert_eq!(again.parts().len(), read.parts().len());
}

fn names(modules: &BTreeMap<String, LoraModule>) -> Vec<&String> {
    modules.keys().collect()
}
