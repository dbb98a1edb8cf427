//! Devices: loading CUDA at run time, waiting for one, and what its memory holds.

use std::ffi::{CStr, c_int};

use crate::TorchError;
use crate::ffi;

/// Loads LibTorch's CUDA half if it lies beside the CPU half, and says whether it did.
///
/// One binary serves both: the linker drops `libtorch_cuda`, which nothing names. This must run before
/// anything asks whether CUDA exists, since LibTorch remembers the answer.
pub fn load_cuda() -> bool {
    const NAME: &CStr = c"libtorch_cuda.so";
    // SAFETY: the name is a NUL-terminated string. The library's initialisers register its kernels with
    // LibTorch, which is loaded already; the handle is never closed.
    let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    !handle.is_null()
}

/// A device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Held by tensors now.
    pub allocated: i64,
    /// The most that tensors held since the last reset.
    pub peak: i64,
    /// Free on the device, for all processes.
    pub free: i64,
    /// The device's whole memory.
    pub total: i64,
}

/// What the accelerator `index` holds.
///
/// # Errors
/// No accelerator, or no such index.
pub fn memory(index: usize) -> Result<Memory, TorchError> {
    let mut m = Memory {
        allocated: 0,
        peak: 0,
        free: 0,
        total: 0,
    };
    // SAFETY: four pointers to distinct live integers, written only during the call.
    ffi::check(unsafe {
        ffi::fewstep_device_memory(
            number(index)?,
            &mut m.allocated,
            &mut m.peak,
            &mut m.free,
            &mut m.total,
        )
    })?;
    Ok(m)
}

/// Starts the count of [`Memory::peak`] anew.
///
/// # Errors
/// No accelerator, or no such index.
pub fn reset_peak(index: usize) -> Result<(), TorchError> {
    // SAFETY: takes a number.
    ffi::check(unsafe { ffi::fewstep_reset_peak(number(index)?) })
}

/// Waits until the accelerator `index` has finished all that it was given.
///
/// # Errors
/// No accelerator, no such index, or a kernel that failed.
pub fn synchronize(index: usize) -> Result<(), TorchError> {
    // SAFETY: takes a number.
    ffi::check(unsafe { ffi::fewstep_synchronize(number(index)?) })
}

/// Lets f32 matrix products on CUDA round their inputs to TF32 (10 bits of mantissa), or not.
///
/// # Errors
/// LibTorch refuses the setting.
pub fn allow_tf32(allow: bool) -> Result<(), TorchError> {
    // SAFETY: takes a number, sets a flag of LibTorch's.
    ffi::check(unsafe { ffi::fewstep_allow_tf32(c_int::from(allow)) })
}

fn number(index: usize) -> Result<c_int, TorchError> {
    c_int::try_from(index).map_err(|_| TorchError::new(&format!("there is no device {index}")))
}
