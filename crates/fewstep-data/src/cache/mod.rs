//! What frozen networks make of pictures and captions, kept on disk so that they need not run again.
//!
//! [`Store`] keeps named tensors as bytes under [`Key`]s. A key is a digest of everything that shaped the tensor: the
//! picture's bytes, its crop, the network's weights. So an entry is never stale: whatever changes gives another key,
//! which is simply not there. [`Latents`] are the keys of pictures, and [`Walk`] shows what of some data is not there
//! yet. Nothing here knows what a network is, or LibTorch.

mod error;
mod file;
mod key;
mod latents;
mod store;
mod walk;

pub use error::{CacheError, Note};
pub use key::{Key, KeyMaker};
pub use latents::Latents;
pub use store::{Store, Usage};
pub use walk::{Missing, Walk};

pub use safetensors::Dtype;

/// A tensor as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major, little-endian.
    pub bytes: Vec<u8>,
}
