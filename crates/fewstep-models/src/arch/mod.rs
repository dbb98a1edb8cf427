//! Known architectures, and models of them with random weights in diffusers' layout: for tests, for measuring
//! full-size shapes without anybody's weights, and for training from nothing.
//!
//! It knows the values of configs and the order of files. What they mean, the networks know.

mod denoiser;
mod pipeline;
mod text;
mod vocabulary;
mod write;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::weights::ModelError;

pub use write::{Written, write_random};

/// An architecture that `write_random` can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Stable Diffusion 1.5: 512 pixels, epsilon.
    Sd15,
    /// Stable Diffusion 2.1: 768 pixels, v-prediction, linear projections, OpenCLIP's text encoder.
    Sd21,
    /// Stable Diffusion XL: 1024 pixels, two text encoders, size conditions.
    Sdxl,
    /// The form of [`Arch::Sd15`], small enough for a test.
    TinySd,
    /// The form of [`Arch::Sd21`], small enough for a test.
    TinySd2,
    /// The form of [`Arch::Sdxl`], small enough for a test.
    TinySdxl,
}

/// What architectures have in common at all sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Sd1,
    Sd2,
    Xl,
}

/// Whether an architecture has its published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Full,
    Tiny,
}

impl Arch {
    /// All architectures.
    pub const ALL: [Arch; 6] = [
        Arch::Sd15,
        Arch::Sd21,
        Arch::Sdxl,
        Arch::TinySd,
        Arch::TinySd2,
        Arch::TinySdxl,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Sd15 => "sd15",
            Arch::Sd21 => "sd21",
            Arch::Sdxl => "sdxl",
            Arch::TinySd => "tiny-sd",
            Arch::TinySd2 => "tiny-sd2",
            Arch::TinySdxl => "tiny-sdxl",
        }
    }

    /// The architecture of this name.
    ///
    /// # Errors
    /// There is none; the error names those that there are.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        Arch::ALL
            .into_iter()
            .find(|arch| arch.name() == name)
            .ok_or_else(|| {
                let names = Arch::ALL.map(Arch::name).join(", ");
                ModelError::input(
                    format!("the architecture {name:?}"),
                    format!("is not one of {names}"),
                )
            })
    }

    /// The config.json of its UNet.
    pub fn unet_config(self) -> Value {
        denoiser::unet(self)
    }

    fn family(self) -> Family {
        match self {
            Arch::Sd15 | Arch::TinySd => Family::Sd1,
            Arch::Sd21 | Arch::TinySd2 => Family::Sd2,
            Arch::Sdxl | Arch::TinySdxl => Family::Xl,
        }
    }

    fn size(self) -> Size {
        match self {
            Arch::Sd15 | Arch::Sd21 | Arch::Sdxl => Size::Full,
            Arch::TinySd | Arch::TinySd2 | Arch::TinySdxl => Size::Tiny,
        }
    }
}
