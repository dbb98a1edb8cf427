//! Shards that can be read once: standard input.

use std::io::Read;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, channel};

use super::failure::{Failure, Trouble};
use super::transfer::{Body, Chunks, Fetch, Identity};
use crate::config::SourceOptions;

/// What is read at once, and how many such chunks wait.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS: usize = 4;

/// A reader that there is only once.
pub(super) struct Once(Mutex<Option<Box<dyn Read + Send>>>);

impl Once {
    /// Standard input.
    pub(super) fn stdin() -> Self {
        Self::new(Box::new(std::io::stdin()))
    }

    /// What `reader` yields.
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Once(Mutex::new(Some(reader)))
    }
}

#[async_trait]
impl Fetch for Once {
    async fn get(&self, _at: u64, _known: &Identity) -> Result<Body, Failure> {
        let reader = self.0.lock().ok().and_then(|mut reader| reader.take());
        let Some(mut reader) = reader else {
            return Err(Failure::unreadable(
                "can be read only once, and was: end the run within its first epoch (--max_train_steps), or name files",
            ));
        };
        let (chunks, arriving) = channel(CHUNKS);
        // It cannot be stopped while it waits for the next byte; nobody waits for it, then.
        let work = move || {
            loop {
                let mut buffer = vec![0; CHUNK_BYTES];
                let chunk = match reader.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    read => read.map(|count| {
                        buffer.truncate(count);
                        Bytes::from(buffer)
                    }),
                };
                let last = chunk.as_ref().map_or(true, Bytes::is_empty);
                if chunks.blocking_send(chunk).is_err() || last {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("data-stdin".into())
            .spawn(work)
            .map_err(|error| Failure::unreadable(format!("cannot be read: {error}")))?;
        Ok(Body {
            start: 0,
            identity: Identity::default(),
            chunks: Box::new(Arriving(arriving)),
        })
    }

    fn seeks(&self) -> bool {
        false
    }

    fn retries(&self, _options: &SourceOptions) -> u32 {
        0
    }
}

struct Arriving(Receiver<std::io::Result<Bytes>>);

#[async_trait]
impl Chunks for Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.0.recv().await {
            Some(Ok(chunk)) => Ok(Some(chunk).filter(|chunk| !chunk.is_empty())),
            Some(Err(error)) => Err(Failure::passing(
                Trouble::Connection,
                format!("cannot be read: {error}"),
            )),
            None => Ok(None),
        }
    }
}
