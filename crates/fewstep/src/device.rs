//! `--device` and `--dtype`: where a command computes, and in which numbers.

use std::str::FromStr;

use anyhow::bail;
use tch::{Device, Kind};

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => word
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| "a device is auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl DeviceChoice {
    /// The device itself. CUDA's half of LibTorch is loaded only where it may be used.
    ///
    /// # Errors
    /// A CUDA device that is not there.
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        if self == DeviceChoice::Cpu {
            return Ok(Device::Cpu);
        }
        let loaded = libtorch_ext::device::load_cuda();
        let count = if loaded {
            usize::try_from(tch::Cuda::device_count())?
        } else {
            0
        };
        match self {
            DeviceChoice::Cuda(_) if !loaded => bail!(
                "--device cuda: this LibTorch is for the CPU only; `cargo xtask setup --cuda` gets the other"
            ),
            DeviceChoice::Cuda(n) if n >= count => {
                bail!("--device cuda:{n}: LibTorch sees {count} CUDA devices, numbered from 0")
            }
            DeviceChoice::Cuda(n) => Ok(Device::Cuda(n)),
            _ if count > 0 => Ok(Device::Cuda(0)),
            _ => Ok(Device::Cpu),
        }
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert_eq!(DeviceChoice::Cpu.open().unwrap(), Device::Cpu);
    }
}
