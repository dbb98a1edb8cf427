//! `--device` and `--dtype` of the commands that only compute: where, and in which numbers.

use fewstep_train::TrainError;
use fewstep_train::config::RunConfig;
use tch::{Device, Kind};

/// The device that a word names, as for a training run: cpu, cuda, cuda:N or auto.
///
/// # Errors
/// A word that is no device, or an accelerator that is not there.
pub(crate) fn open(word: &str) -> Result<Device, TrainError> {
    fewstep_train::device::resolve(&RunConfig {
        device: word.to_owned(),
        ..RunConfig::default()
    })
}

/// The numbers in which networks compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Dtype {
    /// LibTorch's name for it.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
        }
    }

    /// The word that the flag takes for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }
}
