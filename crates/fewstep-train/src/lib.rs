//! Latent consistency distillation: the step, and the training around it.
//!
//! [`Config`] says what a run is. It paints no pictures and prints nothing: whoever runs it looks on.

#![warn(missing_docs)]

pub mod config;
pub mod lr;

pub use config::{Config, ConfigError};
