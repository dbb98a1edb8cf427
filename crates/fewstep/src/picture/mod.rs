//! Pictures side by side, and PNG files with their settings inside.
//!
//! It knows nothing of how a picture came to be.

mod grid;
mod png_file;

pub(crate) use grid::grid;
pub(crate) use png_file::{Note, write_png};
