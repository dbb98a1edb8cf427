//! A part of the data that is read from its beginning or from a place in it: a tar archive, a picture of a folder, a row
//! group of a parquet file. The order shuffles these and knows nothing else of where samples come from.

use std::fmt;
use std::hash::Hasher;
use std::io;
use std::sync::Arc;

use crate::config::Limits;
use crate::place::Place;
use crate::sample::{Found, Samples};
use crate::source::Source;
use crate::wanted::Wanted;

/// What a shard holds, in its own order, each with its place.
pub type Finds = Box<dyn Iterator<Item = (Place, Found)> + Send>;

/// The widest gap of an archive that is read through, in bytes: a source has read about as much ahead anyway.
const GAP: u64 = 256 << 10;

/// A part of the data that can be read any number of times.
pub trait Shard: fmt::Debug + Send + Sync {
    /// What messages call it. Equal shards have equal names.
    fn name(&self) -> &str;

    /// Shows `hasher` what is known of the content without opening it, as bytes: a run that is resumed takes shards
    /// that show it the same for the same shards.
    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        hasher.write(self.name().as_bytes());
    }

    /// What it holds from the place `from` on, read as it is asked for. What goes wrong later is a find as well.
    ///
    /// # Errors
    /// It cannot be opened, or ends before that place.
    fn open(&self, from: Place, limits: &Limits) -> io::Result<Finds>;

    /// The most samples that it can hold, where that is known without opening it.
    fn samples(&self) -> Option<u64> {
        None
    }

    /// Whether the way from one find to another one is long enough that the shard is rather opened anew there.
    fn is_far(&self, from: Place, to: Place) -> bool {
        let _ = (from, to);
        false
    }
}

/// A WebDataset shard, wherever its bytes come from.
#[derive(Debug)]
pub struct Archive {
    source: Arc<dyn Source>,
    wanted: Arc<Wanted>,
}

impl Archive {
    /// The archive that `source` yields, of which the samples are taken that are `wanted`.
    pub fn new(source: Arc<dyn Source>, wanted: Arc<Wanted>) -> Self {
        Archive { source, wanted }
    }
}

impl Shard for Archive {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn open(&self, from: Place, limits: &Limits) -> io::Result<Finds> {
        let reader = self.source.open_at(from.at)?;
        Ok(Box::new(Samples::starting_at(
            from,
            self.name().into(),
            reader,
            *limits,
            Arc::clone(&self.wanted),
        )))
    }

    fn is_far(&self, from: Place, to: Place) -> bool {
        self.source.seeks() && to.ordinal > from.ordinal + 1 && to.at.saturating_sub(from.at) > GAP
    }
}
