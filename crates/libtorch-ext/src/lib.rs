//! What tch lacks of LibTorch, and fewstep needs: loading CUDA at run time, guards that survive a panic,
//! optimiser operations over whole lists of tensors or in one sweep, 8-bit moments, pieces of a network that are
//! computed again on the way back, a device's memory figures, meters of what tensors take, a profiler, tensors without
//! memory to rehearse with, and groups of processes that compute together.
//!
//! The only crate with `unsafe` and C++. It knows nothing of models or training: tensors in, tensors out.

#![warn(missing_docs)]

mod ffi;
mod map;

pub mod error;
pub mod grad;
pub mod lists;
pub mod moments;
pub mod sweep;

pub mod backward;
pub mod blockwise;
pub mod recompute;

pub mod allocator;
pub mod device;
pub mod meter;
pub mod profiler;
pub mod rehearsal;

pub mod group;
pub mod store;

pub use error::{TorchError, catch};
pub use grad::NoGrad;
pub use meter::Meter;
pub use profiler::span;
pub use recompute::recompute;
