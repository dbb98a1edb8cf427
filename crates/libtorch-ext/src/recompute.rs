//! Gradient checkpointing: a piece of a network whose activations are not kept for the backward pass, but computed
//! again in it. It takes time and saves memory; the gradients are the same to the last bit.

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

use crate::error::message;
use crate::{TorchError, ffi};

/// A function from tensors to a tensor, kept until the backward pass, which may run it on another thread.
type Body = Box<dyn Fn(&[Tensor]) -> Tensor + Send>;

/// Runs `body` on `inputs` and keeps nothing of it but the inputs; on the way back it is run again. What it draws from
/// LibTorch's default generator (dropout) is drawn the same again.
///
/// Gradients flow to `inputs` only. So whatever wants a gradient must be one of them, weights included: `body` must
/// not hold such a tensor itself. The gradients of a tensor with several uses in `body` are summed there, before those
/// of its uses outside are added.
///
/// # Errors
/// What LibTorch refuses in `body`, now; later, in the backward pass, it is that call's error.
pub fn recompute(
    inputs: &[Tensor],
    body: impl Fn(&[Tensor]) -> Tensor + Send + 'static,
) -> Result<Tensor, TorchError> {
    if inputs.is_empty() {
        return Err(TorchError::new("a recomputed piece of a network needs an input"));
    }
    let body: Body = Box::new(body);
    let closure = Box::into_raw(Box::new(body)).cast::<c_void>();
    let mut output = std::ptr::null_mut();
    // SAFETY: `inputs.len()` pointers to live tensors; the shim copies the handles. It owns `closure` from here on,
    // whatever happens, calls `call` with it only while it lives and `drop_body` once.
    ffi::check(unsafe {
        ffi::fewstep_recompute(
            ffi::pointers(inputs).as_ptr(),
            inputs.len(),
            closure,
            call,
            drop_body,
            &raw mut output,
        )
    })?;
    // SAFETY: without an error the shim has set `output` to a new handle, which is ours.
    Ok(unsafe { Tensor::from_ptr(output.cast()) })
}

/// Runs the closure for the shim. A panic becomes a message; none may unwind into C++.
unsafe extern "C" fn call(
    closure: *mut c_void,
    inputs: *const *mut c_void,
    count: usize,
    output: *mut *mut c_void,
) -> *mut c_char {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the shim passes the pointer that `recompute` gave it, which lives until `drop_body`; the closure is
        // only ever called through a shared reference.
        let body = unsafe { &*closure.cast::<Body>() };
        // SAFETY: the shim passes an array of `count` pointers to tensors that live during this call.
        let pointers = unsafe { std::slice::from_raw_parts(inputs, count) };
        // SAFETY: as above; `clone_from_ptr` takes a handle of its own and leaves the shim's alone.
        let tensors: Vec<Tensor> = pointers
            .iter()
            .map(|&pointer| unsafe { Tensor::clone_from_ptr(pointer.cast()) })
            .collect();
        body(&tensors)
    }));
    match outcome {
        Ok(tensor) => {
            let tensor = std::mem::ManuallyDrop::new(tensor);
            // SAFETY: `output` points to a place for one pointer. The handle is the shim's from here on: it is not
            // dropped here.
            unsafe { *output = ffi::pointer(&tensor) };
            std::ptr::null_mut()
        }
        Err(payload) => {
            let text = message(&*payload).replace('\0', " ");
            let text = CString::new(text).unwrap_or_default();
            // SAFETY: a NUL-terminated string; strdup's copy is the shim's to free.
            unsafe { libc::strdup(text.as_ptr()) }
        }
    }
}

/// Drops the closure for the shim.
unsafe extern "C" fn drop_body(closure: *mut c_void) {
    // SAFETY: the pointer that `recompute` made with `Box::into_raw`; the shim calls this once, and uses it no more.
    let body = unsafe { Box::from_raw(closure.cast::<Body>()) };
    // A closure whose drop panics leaks what it holds; nothing may unwind into C++.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(body)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoGrad;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use tch::{Device, Kind};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// The generator is the whole process': one test at a time draws from it.
    static GENERATOR: Mutex<()> = Mutex::new(());

    /// A residual with a dropout between two maps.
    fn block(inputs: &[Tensor]) -> Tensor {
        let [x, w, v] = inputs else { panic!("three inputs") };
        let hidden = x.matmul(w).tanh().dropout(0.5, true);
        hidden.matmul(v) + x
    }

    fn leaves() -> [Tensor; 3] {
        tch::manual_seed(3);
        let leaf = |shape: [i64; 2]| Tensor::randn(shape, F32).set_requires_grad(true);
        [leaf([4, 8]), leaf([8, 16]), leaf([16, 8])]
    }

    fn gradients(of: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
        Tensor::run_backward(&[of.square().sum(Kind::Float)], leaves, false, false)
    }

    #[test]
    fn gradients_are_equal_to_the_last_bit_with_dropout() {
        let _alone = GENERATOR.lock();
        let leaves = leaves();
        tch::manual_seed(5);
        let plain = block(&leaves);
        let wanted = gradients(&plain, &leaves);
        tch::manual_seed(5);
        let output = recompute(&leaves, block).unwrap();
        assert_eq!(output, plain);
        // Somebody else draws between the two passes, and goes on with draws of their own.
        let between = Tensor::rand([1], F32);
        let got = gradients(&output, &leaves);
        assert_eq!(got, wanted);
        assert_ne!(Tensor::rand([1], F32), between);
    }

    #[test]
    fn the_body_runs_again_only_in_a_backward_pass() {
        let _alone = GENERATOR.lock();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = || {
            let runs = runs.clone();
            move |inputs: &[Tensor]| {
                runs.fetch_add(1, Ordering::Relaxed);
                block(inputs)
            }
        };
        let leaves = leaves();
        let output = recompute(&leaves, counted()).unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        let _ = gradients(&output, &leaves[1..]);
        assert_eq!(runs.load(Ordering::Relaxed), 2);

        let _no_grad = NoGrad::new();
        let output = recompute(&leaves, counted()).unwrap();
        assert!(!output.requires_grad());
        drop(output);
        assert_eq!(
            Arc::strong_count(&runs),
            1,
            "closures are dropped with their graphs"
        );
    }

    #[test]
    fn what_needs_no_gradient_gets_none() {
        let _alone = GENERATOR.lock();
        let [x, w, v] = leaves();
        let x = x.detach();
        let output = recompute(&[x, w.shallow_clone(), v.shallow_clone()], block).unwrap();
        assert_eq!(gradients(&output, &[v]).len(), 1);
    }

    #[test]
    fn errors_cross_on_both_ways() {
        let _alone = GENERATOR.lock();
        let leaves = leaves();
        let error = recompute(&leaves, |inputs| inputs[0].matmul(&inputs[0])).unwrap_err();
        assert!(error.to_string().contains("cannot be multiplied"), "{error}");

        let calls = AtomicU32::new(0);
        let output = recompute(&leaves, move |inputs| {
            assert_eq!(calls.fetch_add(1, Ordering::Relaxed), 0, "only once");
            block(inputs)
        })
        .unwrap();
        let loss = output.sum(Kind::Float);
        let error = Tensor::f_run_backward(&[loss], &leaves, false, false).unwrap_err();
        assert!(TorchError::from(error).to_string().contains("only once"));
    }

    #[test]
    fn an_input_that_is_handed_through_keeps_its_gradient() {
        let _alone = GENERATOR.lock();
        let [x, ..] = leaves();
        let output = recompute(&[x.shallow_clone()], |inputs| inputs[0].shallow_clone()).unwrap();
        let got = gradients(&output, std::slice::from_ref(&x));
        assert_eq!(got[0], x.detach() * 2.0);
    }
}
