//! From prompts to pictures: the components of a model folder, and the two ways to sample with them.
//!
//! It knows networks and samplers and puts them together. It knows no training, draws no grids and writes no
//! files.

mod conditioning;
mod decoder;
mod denoiser;
mod inpainting;
mod load;
mod lora;
mod noise;
mod sample;
mod text;

pub use conditioning::{AddedTensors, Conditions, Prompts};
pub use decoder::{Decoder, Rgb8};
pub use denoiser::Denoiser;
pub use inpainting::Inpainting;
pub use load::{Pipeline, PipelineOptions, load_unet};
pub use lora::{LoraUse, Merge, misfits, with_loras};
pub use noise::PictureNoise;
pub use sample::{DdimOptions, LcmOptions, StepDone};
pub use text::{EncodedPrompts, Family, TextEncoders, TokenIds};
