//! Processes that compute together: LibTorch's own process groups, Gloo between CPUs and NCCL between CUDA devices.
//!
//! All processes of a group call the same operations in the same order, with tensors of the same shapes and dtypes; that
//! is theirs to see to. Operations only begin here: [`Work::wait`] ends them.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use tch::Tensor;

use crate::store::{Store, StoreError, milliseconds, word};
use crate::{TorchError, ffi};

/// Ends the process at once, with this status. Threads of a group may wait for others that are gone, and whoever takes
/// LibTorch down around them crashes.
pub fn end_process(status: i32) -> ! {
    // SAFETY: it takes a number, and does not return: nothing is left half done that anybody could see.
    unsafe { libc::_exit(status) }
}

/// How processes reach one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Gloo, over the network interface of this name.
    Interface(String),
    /// Gloo, over the interface that has this address (or host's name) of this machine.
    Host(String),
    /// Gloo, over whatever interface this machine's name stands for.
    Default,
    /// NCCL, between CUDA devices; LibTorch's CUDA half must have been loaded.
    Nccl,
}

/// Which process of a group this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its number, from 0.
    pub rank: u32,
    /// How many there are.
    pub size: u32,
}

/// For how long others are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until all have joined.
    pub joining: Duration,
    /// Until all do their part of an operation. NCCL, whose processes join with their first operation, knows only this.
    pub operation: Duration,
}

/// This process' end of a group.
#[derive(Debug)]
pub struct Group {
    handle: *mut c_void,
    member: Member,
}

// SAFETY: c10d's backends belong to no thread; operations are begun through `&mut self`, one at a time.
unsafe impl Send for Group {}

impl Group {
    /// Joins the group `name`, once all others have: each finds the others through `store`.
    ///
    /// # Errors
    /// Others do not come, or cannot be reached, or there is no such network.
    pub fn join(
        store: &Store,
        name: &str,
        member: Member,
        network: &Network,
        patience: Patience,
    ) -> Result<Self, TorchError> {
        let bad = |error: StoreError| TorchError::new(&error.to_string());
        let number = |n: u32| c_int::try_from(n).map_err(|_| TorchError::new("there are too many processes"));
        let (rank, size) = (number(member.rank)?, number(member.size)?);
        let (interface, host) = match network {
            Network::Interface(name) => (Some(word(name).map_err(bad)?), None),
            Network::Host(name) => (None, Some(word(name).map_err(bad)?)),
            Network::Default | Network::Nccl => (None, None),
        };
        let name = word(name).map_err(bad)?;
        let null = std::ptr::null::<c_char>();
        let mut handle = std::ptr::null_mut();
        let joined = match network {
            // SAFETY: a live store, a NUL-terminated string and numbers; `handle` is a place for one pointer.
            Network::Nccl => unsafe {
                ffi::fewstep_group_nccl(
                    store.handle(),
                    name.as_ptr(),
                    rank,
                    size,
                    milliseconds(patience.operation),
                    &raw mut handle,
                )
            },
            // SAFETY: as above; `interface` and `host` are null or NUL-terminated strings that live until the end.
            _ => unsafe {
                ffi::fewstep_group_gloo(
                    store.handle(),
                    name.as_ptr(),
                    rank,
                    size,
                    milliseconds(patience.joining),
                    milliseconds(patience.operation),
                    interface.as_ref().map_or(null, |name| name.as_ptr()),
                    host.as_ref().map_or(null, |name| name.as_ptr()),
                    &raw mut handle,
                )
            },
        };
        ffi::check(joined)?;
        Ok(Group { handle, member })
    }

    /// Which process of the group this is.
    pub fn member(&self) -> Member {
        self.member
    }

    /// Begins to sum `values` over all processes, in place: each has the same sums, to the last bit.
    ///
    /// # Errors
    /// What LibTorch refuses: tensors that are not contiguous, or on another device than the network's.
    pub fn all_reduce(&mut self, values: &Tensor) -> Result<Work, TorchError> {
        // SAFETY: a live group and tensor; the operation keeps the tensor's memory alive.
        Work::begun(|output| unsafe {
            ffi::fewstep_group_all_reduce(self.handle, ffi::pointer(values), output)
        })
    }

    /// Begins to copy what process `root` has in `values` into everybody's.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn broadcast(&mut self, values: &Tensor, root: u32) -> Result<Work, TorchError> {
        let root = c_int::try_from(root).map_err(|_| TorchError::new("there is no such process"))?;
        // SAFETY: as above.
        Work::begun(|output| unsafe {
            ffi::fewstep_group_broadcast(self.handle, ffi::pointer(values), root, output)
        })
    }

    /// Begins to sum `all` over all processes; each gets its own part of the sums, of which there are as many as
    /// processes, in `own`.
    ///
    /// # Errors
    /// As [`Group::all_reduce`], and shapes that do not fit.
    pub fn reduce_scatter(&mut self, own: &Tensor, all: &Tensor) -> Result<Work, TorchError> {
        // SAFETY: as above.
        Work::begun(|output| unsafe {
            ffi::fewstep_group_reduce_scatter(self.handle, ffi::pointer(own), ffi::pointer(all), output)
        })
    }

    /// Begins to collect everybody's `own` in `all`, one after another.
    ///
    /// # Errors
    /// As [`Group::reduce_scatter`].
    pub fn all_gather(&mut self, all: &Tensor, own: &Tensor) -> Result<Work, TorchError> {
        // SAFETY: as above.
        Work::begun(|output| unsafe {
            ffi::fewstep_group_all_gather(self.handle, ffi::pointer(all), ffi::pointer(own), output)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the shim's own handle, freed once.
        let _ = ffi::check(unsafe { ffi::fewstep_group_free(self.handle) });
    }
}

/// An operation that is under way. One that is dropped goes on by itself.
#[derive(Debug)]
pub struct Work {
    handle: *mut c_void,
}

// SAFETY: c10d's works lock themselves; nothing in them belongs to a thread.
unsafe impl Send for Work {}

/// Whether an operation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It has, and what is computed next sees its results.
    Done,
    /// It goes on.
    NotYet,
}

impl Work {
    fn begun(begin: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<Self, TorchError> {
        let mut handle = std::ptr::null_mut();
        ffi::check(begin(&raw mut handle))?;
        Ok(Work { handle })
    }

    /// Waits until the operation has ended, but no longer than `timeout`; it may be asked again. With NCCL the device
    /// waits and not the host, so that the answer comes at once.
    ///
    /// # Errors
    /// The operation failed: most often another process is gone.
    pub fn wait(&self, timeout: Duration) -> Result<Waited, TorchError> {
        let mut done = 0;
        // SAFETY: a live handle; `done` is a place for a number.
        ffi::check(unsafe { ffi::fewstep_work_wait(self.handle, milliseconds(timeout), &raw mut done) })?;
        Ok(match done {
            0 => Waited::NotYet,
            _ => Waited::Done,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the shim's own handle, freed once; the group holds what is still under way.
        let _ = ffi::check(unsafe { ffi::fewstep_work_free(self.handle) });
    }
}
