//! Turning gradients off for a scope, also when the scope ends by a panic (`tch::no_grad` does not).

use std::marker::PhantomData;

/// While it lives, this thread records no gradients.
#[derive(Debug)]
pub struct NoGrad {
    before: bool,
    // Gradient mode belongs to the thread: the guard must be dropped where it was made.
    _not_send: PhantomData<*const ()>,
}

impl NoGrad {
    /// Turns gradients off on this thread until the guard is dropped.
    #[must_use = "gradients are on again as soon as the guard is dropped"]
    pub fn new() -> Self {
        NoGrad {
            before: set_enabled(false),
            _not_send: PhantomData,
        }
    }
}

impl Default for NoGrad {
    fn default() -> Self {
        NoGrad::new()
    }
}

impl Drop for NoGrad {
    fn drop(&mut self) {
        set_enabled(self.before);
    }
}

/// Sets this thread's gradient mode and returns the mode before.
fn set_enabled(enabled: bool) -> bool {
    // SAFETY: the function takes a number, touches only a thread-local flag, and cannot throw.
    unsafe { torch_sys::at_grad_set_enabled(i32::from(enabled)) != 0 }
}
