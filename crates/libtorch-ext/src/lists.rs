//! Operations over lists of tensors: one call for all parameters of a network.
//!
//! All tensors of a call lie on one device. Lists of one call have the same length and, place by place,
//! the same shape; LibTorch checks the shapes, this module the lengths.

use tch::{Kind, Tensor};

use crate::TorchError;
use crate::ffi;

/// What AdamW multiplies with (Loshchilov and Hutter, 2019: decay is decoupled from the gradient).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub lr: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One AdamW update in place. `steps` holds one f32 scalar a parameter, counted up here. `skip` is an f32 scalar on
/// the tensors' device: where it is 1, nothing changes, whatever the gradients hold; the host does not wait to
/// know.
///
/// # Errors
/// Lists of unequal length, or tensors that LibTorch's fused kernel refuses (shapes, dtypes, devices).
pub fn fused_adamw(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    options: AdamW,
    skip: Option<&Tensor>,
) -> Result<(), TorchError> {
    let n = params.len();
    equal_lengths(n, &[grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()])?;
    let AdamW {
        lr,
        beta1,
        beta2,
        weight_decay,
        eps,
    } = options;
    let skip = skip.map_or(std::ptr::null_mut(), ffi::pointer);
    // SAFETY: every list holds `n` pointers to live tensors (borrowed for the whole call), `skip` is null or one
    // more; the shim copies the handles and keeps none.
    ffi::check(unsafe {
        ffi::fewstep_fused_adamw(
            ffi::pointers(params).as_ptr(),
            ffi::pointers(grads).as_ptr(),
            ffi::pointers(exp_avgs).as_ptr(),
            ffi::pointers(exp_avg_sqs).as_ptr(),
            ffi::pointers(steps).as_ptr(),
            n,
            lr,
            beta1,
            beta2,
            weight_decay,
            eps,
            skip,
        )
    })
}

/// `to <- to + weight * (from - to)`, in place: an exponential moving average with decay `1 - weight`.
///
/// # Errors
/// Lists of unequal length, or shapes that differ.
pub fn lerp(to: &[Tensor], from: &[Tensor], weight: f64) -> Result<(), TorchError> {
    equal_lengths(to.len(), &[from.len()])?;
    // SAFETY: both lists hold `to.len()` pointers to live tensors; the shim keeps none.
    ffi::check(unsafe {
        ffi::fewstep_lerp(
            ffi::pointers(to).as_ptr(),
            ffi::pointers(from).as_ptr(),
            to.len(),
            weight,
        )
    })
}

/// The same with the weight an f32 scalar tensor on their device, which the host does not read. With a weight of 0
/// nothing changes.
///
/// # Errors
/// Lists of unequal length, shapes that differ, or a weight on another device.
pub fn lerp_by(to: &[Tensor], from: &[Tensor], weight: &Tensor) -> Result<(), TorchError> {
    equal_lengths(to.len(), &[from.len()])?;
    // SAFETY: both lists hold `to.len()` pointers to live tensors, and `weight` is one more; the shim keeps none.
    ffi::check(unsafe {
        ffi::fewstep_lerp_by(
            ffi::pointers(to).as_ptr(),
            ffi::pointers(from).as_ptr(),
            to.len(),
            ffi::pointer(weight),
        )
    })
}

/// Multiplies every tensor in place by the scalar tensor `factor`, without reading it on the host.
///
/// # Errors
/// What LibTorch refuses: a factor with more than one element, or another device.
pub fn scale(tensors: &[Tensor], factor: &Tensor) -> Result<(), TorchError> {
    // SAFETY: `tensors.len()` pointers to live tensors and one more; the shim keeps none.
    ffi::check(unsafe {
        ffi::fewstep_scale(
            ffi::pointers(tensors).as_ptr(),
            tensors.len(),
            ffi::pointer(factor),
        )
    })
}

/// The L2 norm over all elements of all tensors, as an f32 scalar tensor on their device.
///
/// # Errors
/// An empty list.
pub fn global_norm(tensors: &[Tensor]) -> Result<Tensor, TorchError> {
    let first = tensors
        .first()
        .ok_or_else(|| TorchError::new("the norm of no tensors was asked for"))?;
    let out = Tensor::zeros([], (Kind::Float, first.device()));
    // SAFETY: `tensors.len()` pointers to live tensors, and `out`, which only this call writes.
    ffi::check(unsafe {
        ffi::fewstep_global_norm(ffi::pointers(tensors).as_ptr(), tensors.len(), ffi::pointer(&out))
    })?;
    Ok(out)
}

fn equal_lengths(n: usize, others: &[usize]) -> Result<(), TorchError> {
    match others.iter().find(|&&len| len != n) {
        None => Ok(()),
        Some(len) => Err(TorchError::new(&format!(
            "lists of {n} and {len} tensors in one call"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::from_slice(values)
            .to_kind(Kind::Float)
            .to_device(Device::Cpu)
    }

    fn values(t: &Tensor) -> Vec<f64> {
        Vec::try_from(t.to_kind(Kind::Double).flatten(0, -1)).unwrap()
    }

    #[test]
    fn adamw_does_one_step_of_the_formula() {
        let (p, g) = (tensor(&[1.0, -2.0]), tensor(&[0.5, 0.25]));
        let (m, v, s) = (
            p.zeros_like(),
            p.zeros_like(),
            Tensor::zeros([], (Kind::Float, Device::Cpu)),
        );
        let options = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.01,
            eps: 1e-8,
        };
        let list = |t: &Tensor| [t.shallow_clone()];
        let update = |g: &Tensor, skip: Option<&Tensor>| {
            fused_adamw(
                &list(&p),
                &list(g),
                &list(&m),
                &list(&v),
                &list(&s),
                options,
                skip,
            )
            .unwrap();
        };
        update(&g, None);
        // The first step moves by lr * sign(gradient), after the decay p * (1 - lr * weight_decay).
        let expected = [1.0 * 0.999 - 0.1, -2.0 * 0.999 - 0.1];
        for (got, want) in values(&p).iter().zip(expected) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        assert_eq!(s.double_value(&[]), 1.0);

        // Gradients that are no numbers change nothing where the update is skipped.
        let before = [&p, &m, &v, &s].map(values);
        let scalar = |x: f64| tensor(&[x]).squeeze();
        update(&(&g * f64::NAN), Some(&scalar(1.0)));
        assert_eq!([&p, &m, &v, &s].map(values), before);
        update(&g, Some(&scalar(0.0)));
        assert_eq!(s.double_value(&[]), 2.0);
        assert_ne!(values(&p), before[0]);
    }

    #[test]
    fn norm_and_scale_and_lerp() {
        let list = [tensor(&[3.0, 0.0]), tensor(&[4.0])];
        let norm = global_norm(&list).unwrap();
        assert_eq!(norm.double_value(&[]), 5.0);
        scale(&list, &tensor(&[0.5]).squeeze()).unwrap();
        assert_eq!(values(&list[1]), [2.0]);
        lerp(&list[1..], &[tensor(&[6.0])], 0.25).unwrap();
        assert_eq!(values(&list[1]), [3.0]);
        for (weight, becomes) in [(0.0, 3.0), (0.5, 5.0)] {
            lerp_by(&list[1..], &[tensor(&[7.0])], &tensor(&[weight]).squeeze()).unwrap();
            assert_eq!(values(&list[1]), [becomes]);
        }
        assert!(lerp(&list, &list[..1], 0.5).is_err());
    }
}
