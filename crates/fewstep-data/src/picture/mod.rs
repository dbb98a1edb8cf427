//! From an encoded picture to the numbers a network sees: decode, resize, crop. Nothing here knows shards or draws
//! random numbers.

mod crop;
mod decode;
mod resize;

pub use crop::{Facing, Square, center, write_square};
pub use decode::{DecodeError, Rgb, decode};
pub use resize::{Interpolation, ResizeError, Shrinker, UnknownInterpolation, shorter_side_to};
