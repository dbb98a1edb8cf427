//! The bytes that were read ahead: a queue from a task that fetches to a reader that waits. It knows no places.

use std::io::{self, Read};
use std::sync::{Arc, mpsc as blocking};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::access::Access;
use super::failure::Failed;
use super::network;

enum Message {
    /// Bytes, and the room that they take.
    Chunk(Bytes, Option<OwnedSemaphorePermit>),
    /// Nothing more comes before the reader has asked for it.
    Pause,
    /// The last byte has been sent.
    End,
    /// Nothing more comes.
    Failed(Failed),
}

/// The end of the task that fetches.
pub(super) struct Sender {
    messages: UnboundedSender<Message>,
    room: Arc<Semaphore>,
    capacity: u32,
    asked: Arc<Notify>,
}

/// The end of the reader. Dropping it ends the task, and returns when all that the task held is gone.
pub(super) struct Ahead {
    messages: UnboundedReceiver<Message>,
    asked: Arc<Notify>,
    chunk: Bytes,
    room: Option<OwnedSemaphorePermit>,
    ending: Option<Ending>,
    task: Task,
    access: Access,
}

enum Ending {
    Whole,
    Failed(Failed),
}

/// A task that fetches.
pub(super) struct Task {
    /// Ends it.
    pub(super) abort: AbortHandle,
    /// Breaks off when the task and all that it held is gone.
    pub(super) gone: blocking::Receiver<()>,
}

/// A queue that holds up to `bytes`, and one chunk more. The reader's end still lacks its task.
pub(super) fn queue(bytes: usize, access: Access) -> (Sender, impl FnOnce(Task) -> Ahead) {
    let (sender, messages) = unbounded_channel();
    let asked = Arc::new(Notify::new());
    let capacity = u32::try_from(bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let sender = Sender {
        messages: sender,
        room: Arc::new(Semaphore::new(capacity as usize)),
        capacity,
        asked: Arc::clone(&asked),
    };
    let reader = |task| Ahead {
        messages,
        asked,
        chunk: Bytes::new(),
        room: None,
        ending: None,
        task,
        access,
    };
    (sender, reader)
}

// A reader that is gone ends the task: nobody has to notice that a message reached nobody.
impl Sender {
    /// Sends bytes, once there is room for them.
    pub(super) async fn send(&self, chunk: Bytes) {
        let size = u32::try_from(chunk.len()).unwrap_or(u32::MAX).min(self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok();
        let _ = self.messages.send(Message::Chunk(chunk, room));
    }

    /// Waits until the reader has taken everything and wants more.
    pub(super) async fn until_asked(&self) {
        let _ = self.messages.send(Message::Pause);
        self.asked.notified().await;
    }

    /// Says that this was all.
    pub(super) fn end(self) {
        let _ = self.messages.send(Message::End);
    }

    /// Says that nothing more comes.
    pub(super) fn fail(self, failed: Failed) {
        let _ = self.messages.send(Message::Failed(failed));
    }
}

impl Ahead {
    /// The next message, waited for until the deadline if there is one.
    fn next(&mut self) -> io::Result<Option<Message>> {
        let Some(deadline) = self.access.deadline() else {
            return Ok(self.messages.blocking_recv());
        };
        let next = self.messages.recv();
        network::handle()?
            .block_on(async { tokio::time::timeout_at(deadline.into(), next).await })
            .map_err(|_| {
                self.access.give_up();
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    "sent nothing for as long as a sample was waited for",
                )
            })
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !buffer.is_empty() {
            match &self.ending {
                Some(Ending::Whole) => return Ok(0),
                Some(Ending::Failed(failed)) => return Err(failed.clone().into()),
                None => {}
            }
            self.room = None;
            match self.next()? {
                Some(Message::Chunk(chunk, room)) => (self.chunk, self.room) = (chunk, room),
                Some(Message::Pause) => self.asked.notify_one(),
                Some(Message::End) => self.ending = Some(Ending::Whole),
                Some(Message::Failed(failed)) => self.ending = Some(Ending::Failed(failed)),
                None => return Err(stopped()),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort.abort();
        // The thread of the network waits for nothing, so that this does not take long.
        let _ = self.task.gone.recv();
    }
}

/// The error of a reader whose loader is gone.
pub(super) fn stopped() -> io::Error {
    io::Error::other("was not read to its end: the data loader was stopped")
}
