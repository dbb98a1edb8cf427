//! From a network's weights to files that diffusers and transformers read.
//!
//! It knows file names, shards and their index, not what a configuration means.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::tensors::byte_size;
use super::{ModelError, Written, write_json_atomic, write_tensors};
use crate::params::Weights;

/// Shards are no larger than this, as in diffusers.
pub const MAX_SHARD_BYTES: usize = 10_000_000_000;

/// Writes config.json and the weights in their own dtype into `folder`, which is made if it is not there.
/// Above `max_shard_bytes` the weights are split into shards with an index.
///
/// Every file appears whole or not at all, but one after another: a folder that must be whole too is written
/// anew and renamed by the caller. Files of an earlier save that this one does not replace (shards, an index)
/// are removed at the end. Returned are the names of the files written, and what each holds.
///
/// # Errors
/// What the operating system refused.
pub fn save_component(
    folder: &Path,
    config: &Value,
    weights: &Weights,
    stem: &str,
    max_shard_bytes: usize,
) -> Result<BTreeMap<String, Written>, ModelError> {
    fs::create_dir_all(folder).map_err(|error| ModelError::io("make folder", folder, error))?;
    let shards = split(weights.named(), max_shard_bytes);
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let index_name = format!("{stem}.safetensors.index.json");
    let mut written = BTreeMap::new();
    let mut weight_map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => format!("{stem}.safetensors"),
            n => format!("{stem}-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let holds = write_tensors(&folder.join(&name), shard.iter().copied(), &metadata)?;
        weight_map.extend(
            shard
                .iter()
                .map(|(tensor, _)| ((*tensor).to_owned(), json!(name))),
        );
        written.insert(name, holds);
    }
    if shards.len() > 1 {
        let total_size: usize = weights.tensors().iter().map(byte_size).sum();
        let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
        let holds = write_json_atomic(&folder.join(&index_name), &index)?;
        written.insert(index_name, holds);
    }
    written.insert(
        "config.json".to_owned(),
        write_json_atomic(&folder.join("config.json"), config)?,
    );
    remove_stale(folder, stem, &written)?;
    Ok(written)
}

/// Cuts the tensors, in their order, into shards. A tensor above the limit is a shard of its own.
fn split<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    max_bytes: usize,
) -> Vec<Vec<(&'a str, &'a Tensor)>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        let size = byte_size(tensor);
        match shards.last_mut() {
            Some(shard) if filled + size <= max_bytes || shard.is_empty() => {
                shard.push((name, tensor));
                filled += size;
            }
            _ => {
                shards.push(vec![(name, tensor)]);
                filled = size;
            }
        }
    }
    shards
}

/// Removes weights of the same stem that were not written now: a reader would prefer them.
fn remove_stale(folder: &Path, stem: &str, written: &BTreeMap<String, Written>) -> Result<(), ModelError> {
    let entries = fs::read_dir(folder).map_err(|error| ModelError::io("list", folder, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| ModelError::io("list", folder, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_weights(&name, stem) && !written.contains_key(&*name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| ModelError::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Whether this is the single file, a shard, or the index of these weights (not of a variant).
fn is_weights(name: &str, stem: &str) -> bool {
    let Some(rest) = name.strip_prefix(stem) else {
        return false;
    };
    let shard = |rest: &str| {
        let numbers = rest
            .strip_prefix('-')
            .and_then(|rest| rest.strip_suffix(".safetensors"));
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        numbers
            .and_then(|numbers| numbers.split_once("-of-"))
            .is_some_and(|(i, n)| digits(i) && digits(n))
    };
    matches!(rest, ".safetensors" | ".safetensors.index.json") || shard(rest)
}
