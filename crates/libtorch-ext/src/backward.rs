//! A backward pass that hands over each gradient as soon as it is complete, while the pass goes on: so gradients can be
//! sent to other processes, or summed and let go, before the last one is there.

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

use crate::error::message;
use crate::{TorchError, ffi};

/// What takes a leaf's number and its gradient.
type Take<'a> = Box<dyn FnMut(usize, Tensor) -> Result<(), TorchError> + Send + 'a>;

/// Computes the gradients of the scalar `loss` with respect to `leaves`, and gives each to `take` once, with the number
/// of its leaf, when nothing more can be added to it. A leaf that the loss does not depend on has none. On CUDA `take`
/// runs on a thread of LibTorch's.
///
/// # Errors
/// What LibTorch refuses, and the first error of `take`, which ends the pass.
pub fn backward_each(
    loss: &Tensor,
    leaves: &[Tensor],
    take: impl FnMut(usize, Tensor) -> Result<(), TorchError> + Send,
) -> Result<(), TorchError> {
    let mut take: Take<'_> = Box::new(take);
    // SAFETY: a live tensor and `leaves.len()` more. `take` lives until the call returns; the shim calls it from one
    // thread at a time and forgets it before it returns.
    ffi::check(unsafe {
        ffi::fewstep_backward_each(
            ffi::pointer(loss),
            ffi::pointers(leaves).as_ptr(),
            leaves.len(),
            (&raw mut take).cast(),
            call,
        )
    })
}

/// Runs the closure for the shim. A panic becomes a message; none may unwind into C++.
unsafe extern "C" fn call(closure: *mut c_void, leaf: usize, gradient: *mut c_void) -> *mut c_char {
    // SAFETY: a new handle, which the shim leaves to us.
    let gradient = unsafe { Tensor::from_ptr(gradient.cast()) };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the pointer that `backward_each` gave, whose call is still going on; autograd runs the hooks of one
        // device on one thread, and all leaves lie on one device.
        let take = unsafe { &mut *closure.cast::<Take<'_>>() };
        take(leaf, gradient)
    }));
    let text = match outcome {
        Ok(Ok(())) => return std::ptr::null_mut(),
        Ok(Err(error)) => error.text().to_owned(),
        Err(payload) => message(&*payload),
    };
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a NUL-terminated string; strdup's copy is the shim's to free.
    unsafe { libc::strdup(text.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn leaves() -> [Tensor; 3] {
        [[3, 3], [3, 3], [2, 2]].map(|shape| Tensor::rand(shape, F32).set_requires_grad(true))
    }

    /// The first leaf is used twice, the last one not at all.
    fn loss(leaves: &[Tensor]) -> Tensor {
        let hidden = leaves[0].matmul(&leaves[1]).tanh();
        (hidden * &leaves[0]).sum(Kind::Float)
    }

    #[test]
    fn each_gradient_comes_once_and_is_whole() {
        let leaves = leaves();
        let wanted = Tensor::run_backward(&[loss(&leaves)], &leaves[..2], false, false);
        let mut got = Vec::new();
        backward_each(&loss(&leaves), &leaves, |leaf, gradient| {
            got.push((leaf, gradient.copy()));
            Ok(())
        })
        .unwrap();
        got.sort_by_key(|(leaf, _)| *leaf);
        let places: Vec<usize> = got.iter().map(|(leaf, _)| *leaf).collect();
        assert_eq!(places, [0, 1]);
        for (leaf, gradient) in got {
            assert_eq!(gradient, wanted[leaf]);
        }
        // The hooks are gone again, and the leaves as they were.
        let again = Tensor::run_backward(&[loss(&leaves)], &leaves[..2], false, false);
        assert_eq!(again, wanted);
        assert!(!leaves[0].grad().defined());
    }

    #[test]
    fn a_gradient_is_let_go_as_soon_as_it_was_taken() {
        let meter = crate::Meter::start(Device::Cpu).unwrap();
        let x = Tensor::ones([1 << 18], F32);
        let leaves: Vec<Tensor> = (0..8).map(|_| x.copy().set_requires_grad(true)).collect();
        let before = meter.current().unwrap();
        let loss = leaves
            .iter()
            .fold(Tensor::zeros([], F32), |sum, leaf| sum + leaf.dot(&x));
        meter.reset_peak().unwrap();
        backward_each(&loss, &leaves, |_, _| Ok(())).unwrap();
        // One of them, and not all eight.
        let peak = meter.peak().unwrap() - before;
        assert!((1 << 20..3 << 20).contains(&peak), "{peak}");
    }

    #[test]
    fn an_error_or_a_panic_ends_the_pass() {
        let leaves = leaves();
        let error = backward_each(&loss(&leaves), &leaves, |_, _| Err(TorchError::new("no more")));
        assert_eq!(error.unwrap_err().text(), "no more");
        let error = backward_each(&loss(&leaves), &leaves, |_, _| panic!("at a leaf"));
        assert!(error.unwrap_err().to_string().contains("at a leaf"));
    }
}
