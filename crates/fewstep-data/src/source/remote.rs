//! Shards whose bytes a task fetches ahead of the reader: whatever is no local file.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use super::Source;
use super::access::Access;
use super::ahead;
use super::transfer::{Fetch, deliver};

/// A place, and the name that it goes by.
pub(super) struct Remote {
    name: Arc<str>,
    fetch: Arc<dyn Fetch>,
    access: Access,
}

impl Remote {
    /// What `fetch` brings; `name` may still hold credentials.
    pub(super) fn new(name: &str, fetch: impl Fetch + 'static, access: &Access) -> Self {
        Remote {
            name: access.mask(name).into(),
            fetch: Arc::new(fetch),
            access: access.clone(),
        }
    }
}

impl Source for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        self.open_at(0)
    }

    /// What goes wrong shows when it is read.
    fn open_at(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        let (sender, reader) = ahead::queue(self.access.options().read_ahead_bytes, self.access.clone());
        let (fetch, name) = (Arc::clone(&self.fetch), Arc::clone(&self.name));
        let work = deliver(fetch, name, at, self.access.clone(), sender);
        Ok(Box::new(reader(self.access.start(work)?)))
    }

    fn seeks(&self) -> bool {
        self.fetch.seeks()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.name).finish()
    }
}
