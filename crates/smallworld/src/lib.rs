//! The demo's small world: scenes that it draws and describes, a checker that says how much of a caption a
//! picture shows, a distance between sets of pictures, the making of the little teacher, and the demo.

#![warn(missing_docs)]

mod ahead;
mod linear;

pub mod world;

pub mod checker;
pub mod frechet;

mod judge;
mod paint;

pub mod teacher;

pub mod demo;

pub use judge::Score;
