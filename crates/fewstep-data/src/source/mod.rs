//! Where a shard's bytes come from. A new kind of place only adds an implementation of [`Source`] and a line in
//! [`spec`](crate::spec); nothing downstream knows the difference.

mod access;
mod ahead;
mod failure;
mod file;
mod http;
mod hub;
mod network;
mod once;
mod patience;
mod pipe;
mod places;
mod remote;
mod store;
mod transfer;
mod unpack;

pub use access::{Access, Environment};
pub(crate) use failure::cause_of;
pub use file::File;
pub(crate) use places::{Finding, at};

use std::fmt;
use std::io::{self, Read};

/// A shard that can be opened, any number of times, from its beginning.
pub trait Source: fmt::Debug + Send + Sync {
    /// What messages call it, and what the order of a run depends on: equal shards have equal names.
    fn name(&self) -> &str;

    /// A reader at the first byte of the archive.
    ///
    /// # Errors
    /// What the system or the other side says.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;

    /// A reader at byte `at` of what [`open`](Self::open) yields; at its end where `at` lies there.
    ///
    /// # Errors
    /// As [`open`](Self::open); the archive ends before `at`.
    fn open_at(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut reader = self.open()?;
        skip(&mut reader, at)?;
        Ok(reader)
    }

    /// Whether [`open_at`](Self::open_at) costs about what [`open`](Self::open) does; otherwise it reads all that
    /// comes before.
    fn seeks(&self) -> bool {
        false
    }
}

/// Reads `count` bytes and forgets them.
fn skip(reader: &mut dyn Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    if skipped < count {
        return Err(too_short(skipped, count));
    }
    Ok(())
}

/// The error of an archive that ends before the place at which it was to be opened.
fn too_short(length: u64, at: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("has only {length} bytes and was to be read from byte {at} on; it has changed"),
    )
}
