//! LibTorch's own profiler: which operators ran when, for how long, and what memory they took and gave back; and names
//! for stretches of a program, which it shows beside them.
//!
//! It knows no step and no table: whoever records says what the events mean.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use tch::Device;

use crate::{TorchError, ffi};

/// A stretch of the program, from its making to its drop. It costs next to nothing while nobody records.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    /// `None` while nobody records. Its thread's own.
    begun: Option<NonNull<c_void>>,
    _thread: PhantomData<*mut c_void>,
}

/// Names what runs from here to the drop of what this returns, on this thread.
pub fn span(name: &'static CStr) -> Span {
    let mut begun = std::ptr::null_mut();
    // SAFETY: a NUL-terminated string that lives for ever, and a place for one pointer, written only during the call.
    // Where a name cannot be noted the program does its work all the same.
    let _ = ffi::check(unsafe { ffi::fewstep_span_begin(name.as_ptr(), &raw mut begun) });
    Span {
        begun: NonNull::new(begun),
        _thread: PhantomData,
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            // SAFETY: the pointer that `fewstep_span_begin` gave, handed back once and on the same thread: a span is
            // not `Send`. What it may refuse is nothing that a drop could mend.
            let _ = ffi::check(unsafe { ffi::fewstep_span_end(begun.as_ptr()) });
        }
    }
}

/// Records from its start on; at most one of a process at a time.
#[derive(Debug)]
pub struct Profiler {
    _thread: PhantomData<*mut c_void>,
}

impl Profiler {
    /// Records what this thread does, the backward passes that it starts, and the kernels of a CUDA device.
    ///
    /// # Errors
    /// LibTorch records already, or cannot.
    pub fn start(device: Device) -> Result<Self, TorchError> {
        // SAFETY: takes a number.
        ffi::check(unsafe { ffi::fewstep_profiler_start(c_int::from(device.is_cuda())) })?;
        Ok(Profiler { _thread: PhantomData })
    }

    /// What was recorded. Kernels that a device has not ended yet may be missing: wait for it before.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn stop(self) -> Result<Recording, TorchError> {
        std::mem::forget(self);
        stop()
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        // Whoever failed midway wants no recording.
        let _ = stop();
    }
}

fn stop() -> Result<Recording, TorchError> {
    let mut recording = std::ptr::null_mut();
    // SAFETY: a place for one pointer, written only during the call; a profiler was started on this thread, for
    // `Profiler` is not `Send`.
    ffi::check(unsafe { ffi::fewstep_profiler_stop(&raw mut recording) })?;
    NonNull::new(recording)
        .map(Recording)
        .ok_or_else(|| TorchError::new("the profiler gave no recording"))
}

/// What was recorded.
#[derive(Debug)]
pub struct Recording(NonNull<c_void>);

/// One thing that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its name: an operator's, a kernel's, or a [`span`]'s.
    pub name: String,
    /// What it is.
    pub what: What,
    /// The sizes of the tensors that an operator was given, as in `[2, 320, 64, 64] [320]`.
    pub sizes: String,
    /// The thread that it began on; of no meaning for a kernel.
    pub thread: u64,
    /// When it began, in nanoseconds since some moment.
    pub start_ns: i64,
    /// When it ended.
    pub end_ns: i64,
}

/// What a recorded thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A [`span`].
    Span,
    /// An operator, on the CPU. It may call others, which are recorded too.
    Operator,
    /// Work of an accelerator.
    Kernel,
    /// Memory that was taken (more than 0 bytes) or given back.
    Memory {
        /// How much.
        bytes: i64,
        /// Where.
        device: Device,
    },
}

impl Recording {
    /// Everything that was recorded, in no order.
    ///
    /// # Errors
    /// There is not enough memory for them.
    pub fn events(&self) -> Result<Vec<Recorded>, TorchError> {
        let mut events: Vec<Recorded> = Vec::new();
        let context = (&raw mut events).cast::<c_void>();
        // SAFETY: a live recording; `take` gets `context` back during this call only, while nothing else uses `events`.
        ffi::check(unsafe { ffi::fewstep_recording_each(self.0.as_ptr(), context, take) })?;
        Ok(events)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: the pointer that `fewstep_profiler_stop` gave, freed once.
        unsafe { ffi::fewstep_recording_free(self.0.as_ptr()) };
    }
}

/// An event as the shim shows it.
#[repr(C)]
pub(crate) struct RawEvent {
    name: *const c_char,
    sizes: *const c_char,
    what: c_int,
    device: c_int,
    thread: u64,
    start_ns: i64,
    end_ns: i64,
    bytes: i64,
}

/// Takes one event over from the shim.
unsafe extern "C" fn take(context: *mut c_void, event: *const RawEvent) {
    // SAFETY: the pointer that `events` handed to the shim, which passes it on during that call only; and an event that
    // lives during this one.
    let (events, event) = unsafe { (&mut *context.cast::<Vec<Recorded>>(), &*event) };
    // SAFETY: the shim's texts are NUL-terminated and live during this call.
    let [name, sizes] =
        [event.name, event.sizes].map(|text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
    let what = match event.what {
        0 => What::Span,
        1 => What::Operator,
        2 => What::Kernel,
        _ => What::Memory {
            bytes: event.bytes,
            device: usize::try_from(event.device).map_or(Device::Cpu, Device::Cuda),
        },
    };
    events.push(Recorded {
        name,
        what,
        sizes,
        thread: event.thread,
        start_ns: event.start_ns,
        end_ns: event.end_ns,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tch::{Kind, Tensor};

    /// A process has one profiler.
    static PROFILER: Mutex<()> = Mutex::new(());

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn recorded() -> Recording {
        let profiler = Profiler::start(Device::Cpu).unwrap();
        {
            let _span = span(c"forward");
            let x = Tensor::ones([64, 64], F32).set_requires_grad(true);
            let loss = x.matmul(&x).sum(Kind::Float);
            let _backward = span(c"backward");
            let _ = Tensor::run_backward(&[loss], &[x], false, false);
        }
        profiler.stop().unwrap()
    }

    #[test]
    fn operators_spans_and_memory_are_recorded() {
        let _alone = PROFILER.lock();
        let _before = span(c"before");
        let events = recorded().events().unwrap();
        let of = |name: &str| events.iter().find(|event| event.name == name);
        let (forward, backward) = (of("forward").unwrap(), of("backward").unwrap());
        let product = of("aten::mm").unwrap();
        assert_eq!((forward.what, product.what), (What::Span, What::Operator));
        assert_eq!(product.sizes, "[64, 64] [64, 64]");
        assert!(forward.start_ns <= product.start_ns && product.end_ns <= forward.end_ns);
        assert!(forward.start_ns <= backward.start_ns && backward.end_ns <= forward.end_ns);
        let in_backward = |event: &&Recorded| {
            event.name == "aten::mm" && event.start_ns >= backward.start_ns && event.thread == backward.thread
        };
        assert_eq!(events.iter().filter(in_backward).count(), 2);
        let taken = |event: &Recorded| matches!(event.what, What::Memory { bytes: 16384, .. });
        assert!(events.iter().any(taken));
        assert!(of("before").is_none(), "it began before the recording");
    }

    #[test]
    fn a_profiler_that_is_dropped_leaves_room_for_the_next() {
        let _alone = PROFILER.lock();
        drop(Profiler::start(Device::Cpu).unwrap());
        assert!(!recorded().events().unwrap().is_empty());
        assert!(span(c"after").begun.is_none());
    }
}
