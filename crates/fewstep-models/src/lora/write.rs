//! Adapters written to files: in diffusers' form of today, and in kohya's.
//!
//! Both are written whole or not at all, in the dtypes of the tensors; what was written is returned. A file of either
//! form read again gives the same adapters.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tch::Tensor;

use super::config::{self, METADATA_KEY};
use super::error::LoraError;
use super::kohya;
use super::module::{LoraModule, Part};
use crate::weights::{ModelError, Written, write_tensors};

/// Writes `unet.PATH.lora_A.weight` and `lora_B.weight`, with ranks, alphas and targets in the metadata, from which
/// diffusers takes alphas that are not the ranks. The other networks' names begin with theirs.
///
/// # Errors
/// What the operating system refused.
pub fn write_diffusers(
    path: &Path,
    parts: &[(Part, &BTreeMap<String, LoraModule>)],
) -> Result<Written, ModelError> {
    let mut settings = Map::new();
    let mut names = Vec::new();
    for (part, modules) in parts.iter().filter(|(_, modules)| !modules.is_empty()) {
        settings.extend(config::settings(*part, modules));
        for (module, adapter) in *modules {
            let place = format!("{}.{module}", part.name());
            names.push((format!("{place}.lora_A.weight"), &adapter.a));
            names.push((format!("{place}.lora_B.weight"), &adapter.b));
        }
    }
    let mut metadata = format_metadata();
    metadata.insert(METADATA_KEY.to_owned(), Value::Object(settings).to_string());
    write_tensors(
        path,
        names.iter().map(|(name, tensor)| (name.as_str(), *tensor)),
        &metadata,
    )
}

/// Writes `lora_unet_PATH.lora_down.weight`, `.lora_up.weight` and `.alpha` with underscores in the path, over
/// diffusers' block names. The text encoder is `lora_te_`, or `lora_te1_` where there is a second, `lora_te2_`.
///
/// # Errors
/// A module that is no UNet's or text encoder's as fewstep knows them, for its name could not be read back; or
/// what the operating system refused.
pub fn write_kohya(
    path: &Path,
    parts: &[(Part, &BTreeMap<String, LoraModule>)],
) -> Result<Written, ModelError> {
    let two_encoders = parts
        .iter()
        .any(|(part, modules)| *part == Part::TextEncoder2 && !modules.is_empty());
    let mut tensors = Vec::new();
    for (part, modules) in parts {
        for (module, adapter) in *modules {
            let place = kohya::name(*part, module, two_encoders).ok_or_else(|| LoraError::NoKohyaName {
                path: path.to_owned(),
                module: module.clone(),
            })?;
            tensors.push((format!("{place}.lora_down.weight"), adapter.a.shallow_clone()));
            tensors.push((format!("{place}.lora_up.weight"), adapter.b.shallow_clone()));
            tensors.push((format!("{place}.alpha"), Tensor::from(adapter.alpha as f32)));
        }
    }
    write_tensors(
        path,
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)),
        &format_metadata(),
    )
}

/// What diffusers wants to see before it reads a file.
fn format_metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}
