//! Where a shard's bytes come from. A new kind of place only adds an implementation of [`Source`] and a line in
//! [`spec`](crate::spec); nothing downstream knows the difference.

mod file;

pub use file::File;

use std::fmt;
use std::io::{self, Read};

/// A shard that can be opened, any number of times, from its beginning.
pub trait Source: fmt::Debug + Send + Sync {
    /// What messages call it, and what the order of a run depends on: equal shards have equal names.
    fn name(&self) -> &str;

    /// A reader at the first byte of the archive.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}
