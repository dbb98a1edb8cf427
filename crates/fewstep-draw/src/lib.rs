//! Counter-based random numbers: every draw is a function of (seed, purpose, sample number).
//!
//! So a run draws the same on any device, with any number of ranks and any split into batches, and resuming
//! needs no generator state. The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3", 2011). It knows nothing of tensors or data.

#![warn(missing_docs)]

mod philox;
mod stream;

pub use stream::{Purpose, Stream};
