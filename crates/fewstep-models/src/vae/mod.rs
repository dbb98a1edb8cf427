//! The VAE: pictures to latents and back.

mod blocks;
mod config;
mod decoder;
mod encoder;
mod model;

pub use config::VaeConfig;
pub use model::{AutoencoderKl, Moments};
