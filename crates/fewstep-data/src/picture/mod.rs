//! From an encoded picture to the numbers a network sees: decode, resize, crop. Nothing here knows shards or draws
//! random numbers.

mod crop;
mod decode;
mod interpolation;
mod nearest;
mod resize;
mod turn;

pub use crop::{Facing, Square, center, push_square, write_square};
pub use decode::{DecodeError, Opened, Rgb, decode, open};
pub use interpolation::{Interpolation, UnknownInterpolation};
pub use resize::{PictureResizer, ResizeError, shorter_side_to};
pub use turn::{Turn, turned};
