//! Meters: how many bytes tensors take, and took at most.
//!
//! A meter on the CPU hears of every allocation and free of LibTorch's allocator on its own thread, on which backward
//! passes run too. It does not hear of what libraries below LibTorch take for themselves (oneDNN's copies in its own
//! order). A CUDA device counts by itself, all threads together; so does [`crate::rehearsal`] with its hollow tensors.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use tch::Device;

use crate::{TorchError, device, ffi};

/// Counts from its start on, until it is dropped. Any number may run at once, one within or beside another.
///
/// What was there before any meter is not counted when it goes, and LibTorch warns of the first such tensor on standard
/// error: so the first meter belongs before what it is to follow.
#[derive(Debug)]
pub struct Meter {
    counter: Counter,
}

#[derive(Debug)]
enum Counter {
    /// One of meter.cpp's, which is its thread's own.
    Thread(NonNull<c_void>, PhantomData<*mut c_void>),
    /// The device's figures, and what it held at the start.
    Device { index: usize, before: i64 },
}

/// What a meter on the CPU counts, as meter.h numbers it.
const CPU: c_int = 0;
const HOLLOW: c_int = 1;

/// What a meter shows, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    current: i64,
    peak: i64,
    peak_with_work: i64,
}

impl Meter {
    /// Begins to count the tensors of a device. On CUDA this is also a [`Meter::reset_peak`] for all of its meters.
    ///
    /// # Errors
    /// No such device, or one whose memory LibTorch does not count.
    pub fn start(device: Device) -> Result<Self, TorchError> {
        match device {
            Device::Cpu => Meter::on_thread(CPU),
            Device::Cuda(index) => {
                device::reset_peak(index)?;
                let before = device::memory(index)?.allocated;
                Ok(Meter {
                    counter: Counter::Device { index, before },
                })
            }
            other => Err(TorchError::new(&format!(
                "LibTorch does not count the memory of {other:?}"
            ))),
        }
    }

    /// Begins to count hollow tensors as if they had memory.
    ///
    /// # Errors
    /// There is not enough memory for the meter itself.
    pub fn of_rehearsal() -> Result<Self, TorchError> {
        Meter::on_thread(HOLLOW)
    }

    fn on_thread(counted: c_int) -> Result<Self, TorchError> {
        let mut meter = std::ptr::null_mut();
        // SAFETY: `meter` is a place for one pointer, written only during the call.
        ffi::check(unsafe { ffi::fewstep_meter_start(counted, &raw mut meter) })?;
        let meter = NonNull::new(meter).ok_or_else(|| TorchError::new("a meter did not start"))?;
        Ok(Meter {
            counter: Counter::Thread(meter, PhantomData),
        })
    }

    /// By how many bytes the tensors have grown since the start. Earlier ones that have gone since count against it.
    ///
    /// # Errors
    /// A device that no longer answers.
    pub fn current(&self) -> Result<i64, TorchError> {
        Ok(self.read()?.current)
    }

    /// The most that [`Meter::current`] was since the start or the last reset.
    ///
    /// # Errors
    /// A device that no longer answers.
    pub fn peak(&self) -> Result<i64, TorchError> {
        Ok(self.read()?.peak)
    }

    /// The same with the working memory of libraries below LibTorch, of which a rehearsal alone knows.
    ///
    /// # Errors
    /// A device that no longer answers.
    pub fn peak_with_work(&self) -> Result<i64, TorchError> {
        Ok(self.read()?.peak_with_work)
    }

    /// Lets the peak begin anew, at what there is now.
    ///
    /// # Errors
    /// A device that no longer answers.
    pub fn reset_peak(&self) -> Result<(), TorchError> {
        match &self.counter {
            // SAFETY: the meter lives until `drop`, on this thread, the only one that touches it.
            Counter::Thread(meter, _) => unsafe { ffi::fewstep_meter_reset_peak(meter.as_ptr()) },
            Counter::Device { index, .. } => device::reset_peak(*index)?,
        }
        Ok(())
    }

    fn read(&self) -> Result<Reading, TorchError> {
        let mut reading = Reading {
            current: 0,
            peak: 0,
            peak_with_work: 0,
        };
        match &self.counter {
            Counter::Thread(meter, _) => {
                // SAFETY: the meter lives until `drop`, on this thread; three pointers to distinct live integers.
                unsafe {
                    ffi::fewstep_meter_read(
                        meter.as_ptr(),
                        &mut reading.current,
                        &mut reading.peak,
                        &mut reading.peak_with_work,
                    );
                }
            }
            Counter::Device { index, before } => {
                let memory = device::memory(*index)?;
                reading.current = memory.allocated - before;
                reading.peak = memory.peak - before;
                reading.peak_with_work = reading.peak;
            }
        }
        Ok(reading)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Counter::Thread(meter, _) = &self.counter {
            // SAFETY: the pointer that `fewstep_meter_start` gave, handed back once and on the same thread: a meter is
            // not `Send`. What it may refuse is nothing that a drop could mend.
            let _ = ffi::check(unsafe { ffi::fewstep_meter_stop(meter.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
    const KIB: i64 = 1024;

    fn kibibytes(count: i64) -> Tensor {
        Tensor::zeros([count * KIB / 4], F32)
    }

    #[test]
    fn it_counts_what_is_there_and_what_was_at_most() {
        let meter = Meter::start(Device::Cpu).unwrap();
        let kept = kibibytes(3);
        drop(kibibytes(4));
        assert_eq!(
            (meter.current().unwrap(), meter.peak().unwrap()),
            (3 * KIB, 7 * KIB)
        );
        meter.reset_peak().unwrap();
        drop(kibibytes(1));
        assert_eq!(
            (meter.current().unwrap(), meter.peak().unwrap()),
            (3 * KIB, 4 * KIB)
        );
        drop(kept);
        assert_eq!(meter.current().unwrap(), 0);
    }

    #[test]
    fn meters_may_overlap_and_end_in_any_order() {
        let first = Meter::start(Device::Cpu).unwrap();
        let one = kibibytes(1);
        let second = Meter::start(Device::Cpu).unwrap();
        let two = kibibytes(2);
        assert_eq!(
            (first.current().unwrap(), second.current().unwrap()),
            (3 * KIB, 2 * KIB)
        );
        drop(first);
        drop(one);
        drop(two);
        assert_eq!(second.current().unwrap(), -KIB);
        let four = kibibytes(4);
        assert_eq!(second.current().unwrap(), 3 * KIB);
        drop(four);
        drop(second);
        let third = Meter::start(Device::Cpu).unwrap();
        let eight = kibibytes(8);
        assert_eq!(third.current().unwrap(), 8 * KIB);
        drop(eight);
    }

    #[test]
    fn a_backward_pass_is_on_the_same_thread() {
        let meter = Meter::start(Device::Cpu).unwrap();
        let x = kibibytes(4).set_requires_grad(true);
        let y = x.exp().sum(Kind::Float);
        // exp keeps its result.
        assert_eq!(meter.current().unwrap(), 8 * KIB + 4);
        meter.reset_peak().unwrap();
        let grads = Tensor::run_backward(&[y], &[x], false, false);
        assert!(meter.peak().unwrap() >= 12 * KIB);
        drop(grads);
        assert_eq!(meter.current().unwrap(), 0);
    }
}
