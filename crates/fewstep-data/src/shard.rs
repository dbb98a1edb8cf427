//! A part of the data that is read from its beginning: a tar archive, a picture of a folder, a row group of a parquet
//! file. The order shuffles these and knows nothing else of where samples come from.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::config::Limits;
use crate::sample::{Found, Samples};
use crate::source::Source;

/// What a shard holds, in its own order.
pub type Finds = Box<dyn Iterator<Item = Found> + Send>;

/// A part of the data that can be read, any number of times, from its beginning.
pub trait Shard: fmt::Debug + Send + Sync {
    /// What messages call it, and what the order of a run depends on: equal shards have equal names.
    fn name(&self) -> &str;

    /// What it holds, read as it is asked for. What goes wrong later is a find as well.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, limits: &Limits) -> io::Result<Finds>;
}

/// A WebDataset shard, wherever its bytes come from.
#[derive(Debug)]
pub struct Archive {
    source: Arc<dyn Source>,
}

impl Archive {
    /// The archive that `source` yields.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Archive { source }
    }
}

impl Shard for Archive {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn open(&self, limits: &Limits) -> io::Result<Finds> {
        let reader = self.source.open()?;
        Ok(Box::new(Samples::new(
            self.name().into(),
            reader,
            limits.max_member_bytes,
        )))
    }
}
