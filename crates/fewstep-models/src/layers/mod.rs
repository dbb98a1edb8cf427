//! The few layers that the networks share. Each holds the slots of its parameters and takes the weights
//! with its input; none holds a tensor.

mod conv;
mod linear;
mod norm;

pub use conv::Conv2d;
pub use linear::{Embedding, Linear};
pub use norm::{GroupNorm, LayerNorm};

/// Whether a layer adds a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// It does.
    Yes,
    /// It does not.
    No,
}
