//! Low-rank adapters (LoRA, Hu et al., 2021): the files that hold them.
//!
//! A file of any form becomes a [`LoraFile`]: matrices and alphas under diffusers' module paths. How adapters are
//! applied, and which modules get one in training, is not the files' business; nor is a model at hand when a file
//! is read.
//!
//! | form | names of the tensors |
//! |---|---|
//! | diffusers | `unet.PATH.lora_A.weight`, `unet.PATH.lora_B.weight`; alpha in the metadata |
//! | old diffusers | `unet.PATH.to_q.lora.down.weight`, or `PATH.processor.to_q_lora.down.weight` |
//! | PEFT | `base_model.model.PATH.lora_A.weight`; alpha in adapter_config.json |
//! | kohya | `lora_unet_PATH_WITH_UNDERSCORES.lora_down.weight`, `.lora_up.weight`, `.alpha`; also SGM's block names |

mod module;

mod form;

mod kohya;
mod sgm;

mod key;

mod assemble;

mod config;
mod place;

mod settings;

mod matrices;
mod read;

mod write;

mod error;

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;

pub use error::LoraError;
pub use form::{AlphaSource, LoraForm, Reason, Unloadable};
pub use module::{LoraModule, Part};
pub use place::{DIFFUSERS_FILE, KOHYA_FILE};
pub use read::{LoraFile, ReadOptions};
pub use write::{write_diffusers, write_kohya};
