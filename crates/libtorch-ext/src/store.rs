//! Keys and values that the processes of a run share: LibTorch's TCPStore, which one of them serves. Every wait ends.

use std::ffi::{CString, c_int, c_void};
use std::time::{Duration, Instant};

use crate::group::Member;
use crate::{TorchError, ffi};

/// Why processes do not find or reach one another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another program has the port.
    #[error("port {port} is in use on this machine; choose another one")]
    BusyPort {
        /// The port.
        port: u16,
    },
    /// Nobody answers there.
    #[error("nobody answers on {host}:{port} after {seconds} s", seconds = waited.as_secs())]
    Unreachable {
        /// The machine that should serve.
        host: String,
        /// Its port.
        port: u16,
        /// For how long it was tried.
        waited: Duration,
    },
    /// A key that nobody set in time.
    #[error("nobody set `{key}` within {} s", waited.as_secs_f64())]
    TimedOut {
        /// The key.
        key: String,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// Processes that did not come.
    #[error("{} did not come within {} s", ranks_are(.ranks), waited.as_secs_f64())]
    Missing {
        /// Their numbers.
        ranks: Vec<u32>,
        /// For how long they were waited for.
        waited: Duration,
    },
    /// The connection broke.
    #[error("the connection to the process that serves the rendezvous broke ({said})")]
    Lost {
        /// What LibTorch says.
        said: String,
    },
    /// A word that cannot be passed on.
    #[error("`{0}` holds a NUL character")]
    BadWord(String),
}

fn ranks_are(ranks: &[u32]) -> String {
    let numbers: Vec<String> = ranks.iter().map(u32::to_string).collect();
    match ranks.len() {
        1 => format!("rank {}", numbers.concat()),
        _ => format!("ranks {}", numbers.join(", ")),
    }
}

/// A connection to the store. It does one thing at a time: whoever waits on it keeps others from using it, so that a
/// thread of its own has a [`Store::connect_again`].
#[derive(Debug)]
pub struct Store {
    handle: *mut c_void,
    port: u16,
}

// SAFETY: c10d's store locks itself for each operation; nothing in it belongs to a thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves a store on all addresses of this machine, at `port` or, where that is 0, at a free one.
    ///
    /// # Errors
    /// The port is in use.
    pub fn serve(port: u16, timeout: Duration) -> Result<Self, StoreError> {
        Store::open("127.0.0.1", port, true, timeout)
    }

    /// Connects to a store, which has `timeout` to appear.
    ///
    /// # Errors
    /// It does not.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, StoreError> {
        Store::open(host, port, false, timeout)
    }

    fn open(host: &str, port: u16, serves: bool, timeout: Duration) -> Result<Self, StoreError> {
        let name = word(host)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: a NUL-terminated string and numbers; `handle` is a place for one pointer.
        let opened = ffi::check(unsafe {
            ffi::fewstep_store_open(
                name.as_ptr(),
                port,
                c_int::from(serves),
                milliseconds(timeout),
                &raw mut handle,
            )
        });
        match opened {
            Ok(()) => Ok(Store {
                handle,
                // SAFETY: without an error the shim has set `handle`; it lives until it is dropped.
                port: unsafe { ffi::fewstep_store_port(handle) },
            }),
            Err(_) if serves => Err(StoreError::BusyPort { port }),
            Err(_) => Err(StoreError::Unreachable {
                host: host.to_owned(),
                port,
                waited: timeout,
            }),
        }
    }

    /// Another connection to the same store.
    ///
    /// # Errors
    /// Nobody serves it any more.
    pub fn connect_again(&self) -> Result<Self, StoreError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: a live store; `handle` is a place for one pointer.
        ffi::check(unsafe { ffi::fewstep_store_clone(self.handle, &raw mut handle) }).map_err(lost)?;
        Ok(Store {
            handle,
            port: self.port,
        })
    }

    /// The port of the one who serves.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets a key, whether or not it was set before.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let key = word(key)?;
        // SAFETY: a live store, a NUL-terminated string, and `value.len()` bytes that are copied.
        ffi::check(unsafe { ffi::fewstep_store_set(self.handle, key.as_ptr(), value.as_ptr(), value.len()) })
            .map_err(lost)
    }

    /// The value of a key, once somebody has set it.
    ///
    /// # Errors
    /// Nobody does within `timeout`, or the connection is lost.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        let name = word(key)?;
        let (mut bytes, mut count) = (std::ptr::null_mut(), 0);
        // SAFETY: a live store and a NUL-terminated string; places for one pointer and one number.
        let outcome = ffi::check(unsafe {
            ffi::fewstep_store_get(
                self.handle,
                name.as_ptr(),
                milliseconds(timeout),
                &raw mut bytes,
                &raw mut count,
            )
        });
        outcome.map_err(|error| match error.text().contains("timeout") {
            true => StoreError::TimedOut {
                key: key.to_owned(),
                waited: timeout,
            },
            false => lost(error),
        })?;
        // SAFETY: without an error the shim has set `bytes` to `count` bytes of its own.
        let value = unsafe { std::slice::from_raw_parts(bytes, count) }.to_vec();
        // SAFETY: as above; they are freed once, here, and not used after.
        unsafe { ffi::fewstep_bytes_free(bytes) };
        Ok(value)
    }

    /// Whether somebody has set a key.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn has(&self, key: &str) -> Result<bool, StoreError> {
        let key = word(key)?;
        let mut has = 0;
        // SAFETY: a live store and a NUL-terminated string; `has` is a place for a number.
        ffi::check(unsafe { ffi::fewstep_store_has(self.handle, key.as_ptr(), &raw mut has) })
            .map_err(lost)?;
        Ok(has != 0)
    }

    /// Adds to the number under a key, 0 where there is none, and returns the sum.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn add(&self, key: &str, number: i64) -> Result<i64, StoreError> {
        let key = word(key)?;
        let mut sum = 0;
        // SAFETY: a live store and a NUL-terminated string; `sum` is a place for a number.
        ffi::check(unsafe { ffi::fewstep_store_add(self.handle, key.as_ptr(), number, &raw mut sum) })
            .map_err(lost)?;
        Ok(sum)
    }

    /// Takes a key away, if it is there.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = word(key)?;
        // SAFETY: a live store and a NUL-terminated string.
        ffi::check(unsafe { ffi::fewstep_store_delete(self.handle, key.as_ptr()) }).map_err(lost)
    }

    /// A barrier: waits until all have come to `place`, a name that is used for one meeting only.
    ///
    /// # Errors
    /// Some do not come within `timeout`: which, the error says; or the connection is lost.
    pub fn meet(&self, place: &str, member: Member, timeout: Duration) -> Result<(), StoreError> {
        let end = Instant::now() + timeout;
        let key = |rank: u32| format!("{place}/{rank}");
        self.set(&key(member.rank), &[])?;
        let mut missing = Vec::new();
        for rank in 0..member.size {
            match self.get(&key(rank), end.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(StoreError::TimedOut { .. }) => missing.push(rank),
                Err(error) => return Err(error),
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Missing {
                ranks: missing,
                waited: timeout,
            }),
        }
    }

    pub(crate) fn handle(&self) -> *mut c_void {
        self.handle
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the shim's own handle, freed once. Groups hold the store themselves for as long as they need it.
        let _ = ffi::check(unsafe { ffi::fewstep_store_free(self.handle) });
    }
}

/// LibTorch takes whole milliseconds, and 0 for no end.
pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

pub(crate) fn word(text: &str) -> Result<CString, StoreError> {
    CString::new(text).map_err(|_| StoreError::BadWord(text.replace('\0', " ")))
}

fn lost(error: TorchError) -> StoreError {
    StoreError::Lost {
        said: error.text().to_owned(),
    }
}
