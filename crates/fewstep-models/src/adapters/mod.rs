//! Low-rank adapters (LoRA; Hu et al., 2021): small trained changes to linear maps and convolutions that are
//! attached to frozen weights, or added into them.
//!
//! A network does not know of them: they are attached to its [`crate::params::Weights`], and the layers ask
//! there. Files with adapters are not this module's.

mod low_rank;
mod merge;
mod set;
mod targets;

pub use low_rank::LowRank;
pub use merge::{Misfit, Stored, attach, fuse, misfits};
pub use set::{AdapterOptions, AdapterSet, Dropout};
pub use targets::{DEFAULT_TARGETS, Targets};
