//! Models in and out: folders in diffusers' layout, safetensors files, and the errors that name what is wrong
//! with them.
//!
//! It knows files, names and shapes. What a network computes, [`crate::unet`], [`crate::vae`] and
//! [`crate::clip`] know.

mod atomic;
mod error;
mod file;
mod folder;
mod load;
mod options;
mod save;
mod tensors;

pub use atomic::{write_atomic, write_json_atomic};
pub use error::{Mismatch, ModelError};
pub use file::TensorFile;
pub use folder::{Component, Folder, read_json};
pub use load::{DIFFUSERS_STEM, Key, TRANSFORMERS_STEM};
pub use options::Options;
pub use save::{MAX_SHARD_BYTES, save_component};
pub use tensors::{read_tensors, write_tensors};
