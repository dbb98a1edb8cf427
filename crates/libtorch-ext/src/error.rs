//! LibTorch's errors, without their backtraces, and a border at which its panics become errors.
//!
//! tch's operators panic where LibTorch throws. Inside a network that is what one wants: shapes were
//! checked at its edge. [`catch`] is that edge.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What LibTorch said went wrong, in its first sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchError(String);

impl TorchError {
    /// Keeps what LibTorch says of the cause, and drops its C++ backtrace.
    pub fn new(text: &str) -> Self {
        let end = [
            "\nException raised from",
            "\nFrame #",
            "\nThe above operation failed",
        ]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
        TorchError(text[..end.unwrap_or(text.len())].trim().to_owned())
    }

    /// What LibTorch said, without saying that it was LibTorch.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether a device ran out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        // The caching allocator and the driver; the host's allocator; cuBLAS and cuDNN.
        ["out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED"]
            .iter()
            .any(|words| self.0.contains(words))
    }
}

impl std::fmt::Display for TorchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LibTorch: {}", self.0)
    }
}

impl std::error::Error for TorchError {}

impl From<tch::TchError> for TorchError {
    fn from(error: tch::TchError) -> Self {
        TorchError::new(&error.to_string())
    }
}

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

/// Runs `body`, and returns LibTorch's exceptions (and any other panic) as an error, silently.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, TorchError> {
    silence_caught_panics();
    CATCHING.with(|depth| depth.set(depth.get() + 1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    CATCHING.with(|depth| depth.set(depth.get() - 1));
    outcome.map_err(|payload| TorchError::new(&message(&*payload)))
}

/// A panic that [`catch`] turns into an error is not printed as well.
fn silence_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.with(Cell::get) == 0 {
                print(info);
            }
        }));
    });
}

pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (_, Some(text)) => text,
        _ => "a panic without a message",
    };
    // tch unwraps its error type: `called ... on an `Err` value: Torch("...\n...")`, escaped.
    match text.split_once("Torch(\"") {
        Some((_, inner)) => inner
            .trim_end_matches("\")")
            .replace("\\n", "\n")
            .replace("\\\"", "\""),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_shape_error_is_one_sentence() {
        let options = (Kind::Float, Device::Cpu);
        let error = catch(|| Tensor::ones([2, 3], options).matmul(&Tensor::ones([2, 3], options)));
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
            "{text}"
        );
        assert!(!text.contains("Exception raised from"), "{text}");
    }

    /// What LibTorch and CUDA's libraries say, as it stands in their sources.
    #[test]
    fn a_full_memory_is_known_by_its_words() {
        for text in [
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB",
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
             allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)",
        ] {
            assert!(TorchError::new(text).is_out_of_memory(), "{text}");
        }
        let other = "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)";
        assert!(!TorchError::new(other).is_out_of_memory());
        let huge = catch(|| Tensor::empty([1 << 60], (Kind::Uint8, Device::Cpu)));
        assert!(huge.unwrap_err().is_out_of_memory());
    }

    #[test]
    fn an_error_leaves_gradients_on() {
        let _ = catch(|| {
            let _guard = crate::NoGrad::new();
            panic!("inside");
        });
        let x = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!((&x * 2.0).requires_grad());
    }
}
