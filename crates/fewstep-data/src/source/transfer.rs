//! From a place to the queue of bytes read ahead, through every trouble that passes: asks again after growing waits,
//! from the byte on that is still wanted, and sees to it that what comes then is still the same shard. It knows no kind
//! of place.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Crc;

use super::access::Access;
use super::ahead::Sender;
use super::failure::{Failed, Failure, Trouble};
use super::patience::Patience;
use crate::config::SourceOptions;

/// A place that can be asked for its bytes.
#[async_trait]
pub(super) trait Fetch: Send + Sync {
    /// Asks for the bytes from `at` on. `known` is what was learned of the shard before.
    async fn get(&self, at: u64, known: &Identity) -> Result<Body, Failure>;

    /// Whether it may well begin at any byte that it is asked for.
    fn seeks(&self) -> bool;

    /// How often it is asked again before a byte more has come.
    fn retries(&self, options: &SourceOptions) -> u32 {
        options.retries
    }

    /// Whether it is asked again only when all that came has been used: then what goes wrong after the last byte that
    /// anybody wants goes unnoticed.
    fn waits(&self) -> bool {
        false
    }
}

/// What a place answers.
pub(super) struct Body {
    /// The byte that comes first: the one asked for, or 0.
    pub(super) start: u64,
    /// What is known of the shard now.
    pub(super) identity: Identity,
    /// The bytes.
    pub(super) chunks: Box<dyn Chunks>,
}

/// Bytes as they arrive.
#[async_trait]
pub(super) trait Chunks: Send {
    /// The next ones; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure>;
}

/// By what one knows a shard again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The name of this very version of it, in quotes, with `W/` before it where it is a weak one.
    pub(super) etag: Option<String>,
    /// When it was changed last, as the server writes it.
    pub(super) modified: Option<String>,
    /// Its bytes.
    pub(super) length: Option<u64>,
}

impl Identity {
    /// Takes in what another answer says of the shard.
    fn meet(&mut self, other: Identity) -> Result<(), Failure> {
        fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        let differs = if differ(self.length.as_ref(), other.length.as_ref()) {
            Some("its length")
        } else if self.etag.is_some() && other.etag.is_some() {
            // A weak tag promises less than the same bytes, but a change of it tells of other ones.
            let opaque = |tag: &String| tag.trim_start_matches("W/").to_owned();
            let (one, other) = (self.etag.as_ref().map(opaque), other.etag.as_ref().map(opaque));
            differ(one.as_ref(), other.as_ref()).then_some("its ETag")
        } else {
            differ(self.modified.as_ref(), other.modified.as_ref()).then_some("its date")
        };
        if let Some(what) = differs {
            return Err(Failure::changed(format!(
                "changed while it was read: {what} is another than before"
            )));
        }
        self.length = self.length.or(other.length);
        self.etag = self.etag.take().or(other.etag);
        self.modified = self.modified.take().or(other.modified);
        Ok(())
    }
}

/// Sends everything from byte `from` on, until it is all sent or given up.
pub(super) async fn deliver(
    fetch: Arc<dyn Fetch>,
    name: Arc<str>,
    from: u64,
    access: Access,
    sender: Sender,
) {
    let mut transfer = Transfer {
        fetch: &*fetch,
        timeout: access.options().timeout,
        from,
        at: from,
        sent: Crc::new(),
        identity: Identity::default(),
        patience: Patience::new(&name, &access, fetch.retries(access.options())),
        sender: &sender,
    };
    let failed = loop {
        let passing = match transfer.attempt().await {
            Ok(()) => return sender.end(),
            Err(Failure::Final(failed)) => break failed,
            Err(Failure::Passing(passing)) => passing,
        };
        if fetch.waits() {
            sender.until_asked().await;
        }
        let place = format!(" (at byte {})", transfer.at);
        if let Err(failed) = transfer.patience.endure(passing, &place).await {
            break failed;
        }
    };
    sender.fail(Failed {
        what: access.mask(&failed.what),
        ..failed
    });
}

struct Transfer<'a> {
    fetch: &'a dyn Fetch,
    timeout: Duration,
    /// The byte at which the reader began.
    from: u64,
    /// The next byte that it wants.
    at: u64,
    /// Of everything sent, to know it again where it comes once more.
    sent: Crc,
    identity: Identity,
    patience: Patience<'a>,
    sender: &'a Sender,
}

impl Transfer<'_> {
    /// Asks once, and sends on what comes.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let timeout = self.timeout;
        let mut body = within(timeout, self.fetch.get(self.at, &self.identity)).await?;
        self.identity.meet(body.identity)?;
        if body.start != self.at && body.start != 0 {
            return Err(Failure::changed(format!(
                "was asked for from byte {} on, and came from byte {} on",
                self.at, body.start
            )));
        }
        let mut seen = Seen {
            place: body.start,
            again: Crc::new(),
        };
        while let Some(mut chunk) = within(timeout, body.chunks.next()).await? {
            self.skip_seen(&mut seen, &mut chunk)?;
            if chunk.is_empty() {
                continue;
            }
            self.sent.update(&chunk);
            self.at += chunk.len() as u64;
            seen.place = self.at;
            self.patience.renew();
            self.sender.send(chunk).await;
        }
        self.check_length(seen.place)
    }

    /// Takes from `chunk` what the reader has already, and compares it with what the reader got.
    fn skip_seen(&self, seen: &mut Seen, chunk: &mut Bytes) -> Result<(), Failure> {
        if seen.place >= self.at {
            return Ok(());
        }
        let count = usize::try_from(self.at - seen.place).unwrap_or(usize::MAX);
        let before = chunk.split_to(count.min(chunk.len()));
        // What lies before the reader's beginning was never sent.
        let unsent = usize::try_from(self.from.saturating_sub(seen.place)).unwrap_or(usize::MAX);
        seen.again.update(&before[unsent.min(before.len())..]);
        seen.place += before.len() as u64;
        if seen.place == self.at && seen.again.sum() != self.sent.sum() {
            return Err(Failure::changed(
                "changed while it was read: other bytes came when it was read again",
            ));
        }
        Ok(())
    }

    /// The bytes came to an end at `place`: the right one?
    fn check_length(&self, place: u64) -> Result<(), Failure> {
        if let Some(length) = self.identity.length
            && place < length
        {
            return Err(Failure::passing(
                Trouble::Connection,
                format!("broke off at byte {place} of {length}"),
            ));
        }
        if place < self.at {
            let error = super::too_short(place, self.at).to_string();
            return Err(Failure::changed(error));
        }
        Ok(())
    }
}

/// Bytes that come once more.
struct Seen {
    /// The next byte to come.
    place: u64,
    /// Of those that were sent before.
    again: Crc,
}

/// Waits for `work`, but not longer than `timeout`.
pub(super) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        Err(Failure::passing(
            Trouble::Silence,
            format!("sent nothing for {} s", timeout.as_secs_f64()),
        ))
    })
}
