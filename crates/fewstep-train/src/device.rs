//! Which device a run computes on.

use tch::{Cuda, Device};

use crate::config::RunConfig;
use crate::error::TrainError;
use crate::memory;

/// The device that `--device` names. Loads LibTorch's CUDA half first where one may be wanted.
///
/// # Errors
/// A word that is no device, or an accelerator that is not there.
pub fn resolve(config: &RunConfig) -> Result<Device, TrainError> {
    let wanted = config.device.as_str();
    let refuse = |reason: String| TrainError::Device {
        wanted: wanted.to_owned(),
        reason,
    };
    if wanted == "cpu" {
        return Ok(Device::Cpu);
    }
    let index = match wanted.split_once(':') {
        None if wanted == "auto" || wanted == "cuda" => 0,
        Some(("cuda", index)) => index
            .parse()
            .map_err(|_| refuse(format!("`{index}` is not the number of a device")))?,
        _ => return Err(refuse("it is none of cpu, cuda, cuda:N, auto".to_owned())),
    };
    let count = match libtorch_ext::device::load_cuda() && Cuda::is_available() {
        true => usize::try_from(Cuda::device_count()).unwrap_or(0),
        false => 0,
    };
    match count {
        0 if wanted == "auto" => Ok(Device::Cpu),
        0 => Err(refuse(
            "there is no CUDA device, or LibTorch was set up without CUDA; give --device cpu, or set up with \
             `cargo xtask setup --cuda`"
                .to_owned(),
        )),
        _ if index < count => {
            libtorch_ext::device::allow_tf32(config.allow_tf32)?;
            Ok(Device::Cuda(index))
        }
        _ => Err(refuse(format!("the devices here are cuda:0 to cuda:{}", count - 1))),
    }
}

/// The device of a rank, in the words of `--device`: without a number each rank of a machine has its own accelerator.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn of_rank(config: &RunConfig, local_rank: u32) -> Result<String, TrainError> {
    let word = config.device.clone();
    if word != "auto" && word != "cuda" {
        return Ok(word);
    }
    match resolve(config)? {
        Device::Cuda(_) => Ok(format!("cuda:{local_rank}")),
        _ => Ok(word),
    }
}

/// What the run holds in memory now, in bytes: of the accelerator, or else of the process where the system
/// says.
pub(crate) fn memory_in_use(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => {
            let memory = libtorch_ext::device::memory(index).ok()?;
            u64::try_from(memory.allocated).ok()
        }
        _ => memory::resident(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(word: &str) -> Result<Device, TrainError> {
        resolve(&RunConfig {
            device: word.to_owned(),
            ..RunConfig::default()
        })
    }

    #[test]
    fn words_are_devices_or_named_errors() {
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for word in ["gpu", "cuda:x", "cpu:0", "cuda:99"] {
            let error = device(word).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--device {word}: ")), "{error}");
        }
    }
}
