//! Models in and out: folders in diffusers' layout, safetensors files, and the errors that name what is wrong
//! with them.
//!
//! It knows files, names and shapes. What a network computes, [`crate::unet`], [`crate::vae`] and
//! [`crate::clip`] know.

mod sum;

mod inside;

mod atomic;
mod dtype;
mod error;
mod file;
mod folder;
mod load;
mod mismatch;
mod options;
mod save;
mod stored;
mod tensors;

pub use atomic::{AtomicFile, write_atomic, write_json_atomic};
pub use dtype::{dtype_of, kind_of};
pub use error::ModelError;
pub use file::TensorFile;
pub use folder::{Component, Folder, read_json};
pub(crate) use inside::{check_file, read_text};
pub use load::Key;
pub use mismatch::Mismatch;
pub use options::Options;
pub use save::{MAX_SHARD_BYTES, save_component};
pub use stored::{DIFFUSERS_STEM, TRANSFORMERS_STEM};
pub use sum::Written;
pub use tensors::{read_tensors, tensor_bytes, write_tensors};
