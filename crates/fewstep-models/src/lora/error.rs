//! What can be wrong with a file of adapters, beyond what can be wrong with any file of tensors.

use std::path::PathBuf;

use super::form::Unloadable;

/// How many tensors an error names; a wholly foreign file has hundreds.
const LISTED: usize = 6;

/// Why a file of adapters cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// The file holds a DoRA.
    #[error(
        "{} holds a DoRA, which fewstep does not support: tensor `{key}` is its magnitude, and without it the other \
         tensors mean something else. Merge the DoRA into its model with the tool that made it, or train a LoRA",
        path.display()
    )]
    Dora {
        /// The file.
        path: PathBuf,
        /// The first tensor that shows it.
        key: String,
    },

    /// Some of the file's tensors cannot be used, and nothing is left out in silence.
    #[error(
        "{} holds {} tensors that are no part of a LoRA that fewstep knows: {} (`fewstep lora inspect` lists all)",
        path.display(), tensors.len(), listed(tensors)
    )]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// All of them.
        tensors: Vec<Unloadable>,
    },

    /// The file holds no tensors.
    #[error("{} holds no LoRA: it has no tensors", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },

    /// What a file says about ranks and alphas makes no sense.
    #[error("the LoRA settings in {} are wrong: {problem}", path.display())]
    Settings {
        /// The file that says it.
        path: PathBuf,
        /// What is wrong, as a sentence.
        problem: String,
    },

    /// kohya's names have no dots, so only modules whose names are known can be told apart again.
    #[error(
        "module `{module}` cannot be written to {}: kohya's names cannot hold it, since fewstep knows no such module \
         of a UNet or text encoder; the diffusers form can",
        path.display()
    )]
    NoKohyaName {
        /// The file to be written.
        path: PathBuf,
        /// The module's path.
        module: String,
    },
}

fn listed(tensors: &[Unloadable]) -> String {
    let mut text = tensors
        .iter()
        .take(LISTED)
        .map(Unloadable::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    if tensors.len() > LISTED {
        text.push_str(&format!("; and {} more", tensors.len() - LISTED));
    }
    text
}
