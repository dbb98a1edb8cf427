//! The networks and the arithmetic of latent diffusion: noise schedules, solvers and samplers; CLIP, UNet and
//! VAE; diffusers folders and LoRA files in and out.
//!
//! It knows no training and no data. Arithmetic takes and returns tensors; files are [`weights`]' business.

#![warn(missing_docs)]

pub mod params;

pub mod adapters;
pub mod layers;

pub mod schedule;

pub mod clip;
pub mod unet;
pub mod vae;

pub mod weights;

pub mod lora;

pub mod pipeline;

pub mod arch;
