//! The whole update of a network on the CPU in one sweep over memory: each number of a weight, its gradient, its
//! moments, its moving average and the copies of both is read once and written once.
//!
//! The arithmetic is that of LibTorch's fused AdamW, of its `lerp` and of its casts, and gives the bits of its AVX2
//! and AVX-512 kernels; only where LibTorch does the last few numbers of a tensor one by one, it may round them another
//! way. Moments in 8 bits are those of bitsandbytes. The outcome is the same on any number of threads, and with any set
//! of instructions.

use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use crate::lists::AdamW;
use crate::map::{SIGNED, UNSIGNED};
use crate::moments::Moments;
use crate::{TorchError, ffi};

/// One parameter with all that its update reads and writes: contiguous tensors of the same number of elements.
#[derive(Debug)]
pub struct Part<'a> {
    /// The f32 weight.
    pub param: &'a Tensor,
    /// Its gradient in f32, bf16 or f16.
    pub gradient: &'a Tensor,
    /// Its updates so far: an f32 scalar.
    pub step: &'a Tensor,
    /// Its moments.
    pub moments: &'a Moments,
    /// The weight in another dtype, bf16 or f16.
    pub copy: Option<&'a Tensor>,
    /// Its moving average.
    pub average: Option<Average<'a>>,
}

/// A moving average of a weight.
#[derive(Debug, Clone, Copy)]
pub struct Average<'a> {
    /// The average, f32.
    pub param: &'a Tensor,
    /// The same in another dtype, bf16 or f16.
    pub copy: Option<&'a Tensor>,
}

/// What holds for all parameters of an update.
#[derive(Debug, Clone, Copy)]
pub struct Sweep<'a> {
    /// AdamW's numbers.
    pub adamw: AdamW,
    /// What gradients are multiplied with first: an f32 scalar.
    pub factor: &'a Tensor,
    /// Where this f32 scalar is 1, nothing changes, whatever the gradients hold.
    pub skip: &'a Tensor,
    /// How far an average moves towards its weight, from 0 to 1.
    pub average_weight: f64,
}

/// Updates all `parts`.
///
/// # Errors
/// Tensors that are not contiguous, not on the CPU, or of another size or dtype than is said above.
pub fn update(parts: &[Part], sweep: &Sweep) -> Result<(), TorchError> {
    let parts: Vec<ffi::Part> = parts.iter().map(part).collect();
    let AdamW {
        lr,
        beta1,
        beta2,
        weight_decay,
        eps,
    } = sweep.adamw;
    // SAFETY: every pointer of a part, `factor` and `skip` are null where that is allowed, or live tensors that are
    // borrowed for the whole call; the shim checks their sizes and dtypes before it writes. The maps are never
    // freed, and laid out as the shim's.
    ffi::check(unsafe {
        ffi::fewstep_sweep(
            parts.as_ptr(),
            parts.len(),
            lr,
            beta1,
            beta2,
            weight_decay,
            eps,
            sweep.average_weight,
            ffi::pointer(sweep.factor),
            ffi::pointer(sweep.skip),
            &raw const *SIGNED,
            &raw const *UNSIGNED,
        )
    })
}

fn part(part: &Part) -> ffi::Part {
    let or_null = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), ffi::pointer);
    let (moments, absmax) = match part.moments {
        Moments::Full { exp_avg, exp_avg_sq } => ([exp_avg, exp_avg_sq], [None, None]),
        Moments::Blocks { exp_avg, exp_avg_sq } => (
            [&exp_avg.codes, &exp_avg_sq.codes],
            [Some(&exp_avg.absmax), Some(&exp_avg_sq.absmax)],
        ),
    };
    ffi::Part {
        param: ffi::pointer(part.param),
        gradient: ffi::pointer(part.gradient),
        step: ffi::pointer(part.step),
        exp_avg: ffi::pointer(moments[0]),
        exp_avg_sq: ffi::pointer(moments[1]),
        exp_avg_absmax: or_null(absmax[0]),
        exp_avg_sq_absmax: or_null(absmax[1]),
        copy: or_null(part.copy),
        average: or_null(part.average.map(|average| average.param)),
        average_copy: or_null(part.average.and_then(|average| average.copy)),
    }
}

/// The L2 norm over all elements of all tensors (f32, bf16 or f16, contiguous, on the CPU) as an f32 scalar: squares
/// are summed in f32 over 1024 numbers, then in f64.
///
/// # Errors
/// Tensors of another kind.
pub fn norm(tensors: &[Tensor]) -> Result<Tensor, TorchError> {
    let out = Tensor::zeros([], (Kind::Float, Device::Cpu));
    // SAFETY: `tensors.len()` pointers to live tensors, and `out`, which only this call writes.
    ffi::check(unsafe {
        ffi::fewstep_norm(ffi::pointers(tensors).as_ptr(), tensors.len(), ffi::pointer(&out))
    })?;
    Ok(out)
}
