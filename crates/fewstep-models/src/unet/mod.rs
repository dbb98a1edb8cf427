//! The UNet of Stable Diffusion 1.x, 2.x and XL, built from its config.json: diffusers'
//! `UNet2DConditionModel`, parameter for parameter.
//!
//! It knows no files, no schedule and no training: latents, a timestep and a prompt's embeddings go in, a
//! prediction comes out.

mod activation;
mod attention;
mod blocks;
mod config;
mod embeddings;
mod input;
mod keys;
mod levels;
mod model;
mod places;
mod recompute;
mod resnet;

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use config::{BlockType, MidBlockType, TextTime, TimeScaleShift, UNetConfig};
pub use embeddings::Sinusoid;
pub use input::{AddedConditions, UNetInput};
pub use model::UNet2DConditionModel;
pub use recompute::{Piece, Recomputed};
