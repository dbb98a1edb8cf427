//! The small world: scenes of two objects on a patterned background, their captions, and their pictures.
//!
//! It knows no tensors and no checker. A scene is a function of (seed, number) alone.

mod caption;
mod picture;
mod render;
mod scene;
mod shapes;

pub use caption::{caption, words};
pub use picture::{Picture, SIDE};
pub use render::{BACKGROUND_RGB, OBJECT_RGB, render};
pub use scene::{Background, BackgroundColour, Colour, Object, ObjectSize, Pattern, Relation, Scene, Shape};
