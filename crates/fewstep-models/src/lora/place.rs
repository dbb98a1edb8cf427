//! Which file a path means, and which adapter_config.json belongs to it.
//!
//! It knows file names, not what the files hold.

use std::path::{Path, PathBuf};

use crate::weights::{ModelError, check_file};

/// diffusers' name for a file of adapters, in its form of today.
pub const DIFFUSERS_FILE: &str = "pytorch_lora_weights.safetensors";

/// Our name for a file of adapters in kohya's form. diffusers, given a folder, does not take it for its own.
pub const KOHYA_FILE: &str = "lora_kohya.safetensors";

const PEFT_FILE: &str = "adapter_model.safetensors";
const PEFT_CONFIG: &str = "adapter_config.json";

/// The folder into which the reference's WebDataset scripts put a copy of an adapter whose settings lie above it.
const REFERENCE_COPY: &str = "unet_lora";

/// The file of tensors that `path` means: itself, or in a folder PEFT's or diffusers' file.
///
/// # Errors
/// There is none, or only a pickle, or it is a link out of its folder.
pub(super) fn tensors(path: &Path) -> Result<PathBuf, ModelError> {
    if !path.is_dir() {
        let ending = path.extension().and_then(|ending| ending.to_str());
        return match ending {
            Some("bin" | "pt" | "pth" | "ckpt") => Err(ModelError::Pickle { path: path.into() }),
            _ => Ok(path.to_owned()),
        };
    }
    for name in [PEFT_FILE, DIFFUSERS_FILE] {
        let file = path.join(name);
        if file.is_file() {
            check_file(&file)?;
            return Ok(file);
        }
    }
    for name in [PEFT_FILE, DIFFUSERS_FILE] {
        let pickle = path.join(name).with_extension("bin");
        if pickle.is_file() {
            return Err(ModelError::Pickle { path: pickle });
        }
    }
    Err(ModelError::Missing {
        path: path.join(DIFFUSERS_FILE),
        remedy: format!("a folder with a LoRA holds it or {PEFT_FILE}; or name the file itself"),
    })
}

/// The settings that belong to a file whose names are PEFT's, if they are there: beside it, or above the folder
/// that the reference makes.
pub(super) fn adapter_config(tensors: &Path) -> Option<PathBuf> {
    let folder = tensors.parent()?;
    let above = (folder.file_name().is_some_and(|name| name == REFERENCE_COPY))
        .then(|| folder.parent())
        .flatten();
    [Some(folder), above]
        .into_iter()
        .flatten()
        .map(|folder| folder.join(PEFT_CONFIG))
        .find(|config| config.is_file())
}
