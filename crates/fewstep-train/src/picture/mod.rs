//! Pictures side by side, and PNG files with their settings inside.
//!
//! It knows nothing of how a picture came to be.

mod grid;
mod png_file;

pub use grid::{cut, grid};
pub use png_file::{Note, PictureError, encode_png, read_png, write_png};
