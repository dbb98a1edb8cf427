//! Going on where a cursor stands, or else as near to it as the data allow.

use std::fmt;

use serde::Serialize;

use crate::cursor::{Cursor, Position};
use crate::order::Order;

/// What going on came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumed {
    /// The next sample is the one that would have been next.
    Exactly,
    /// It is, but for what can no longer be read: that is counted as dropped.
    Without {
        /// How many samples are gone, or rests of shards.
        count: u64,
        /// The first of them, and why.
        first: String,
    },
    /// The order is another one: the next epoch begins.
    NextEpoch {
        /// What has changed, as a sentence's parts.
        changes: Vec<String>,
    },
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resumed::Exactly => write!(f, "the data go on with the very next sample"),
            Resumed::Without { count, first } => write!(
                f,
                "the data go on without {count} sample(s) or rest(s) of shards that can no longer be read; the first \
                 is {first}"
            ),
            Resumed::NextEpoch { changes } => write!(
                f,
                "the data go on at the beginning of the next epoch, for their order has changed: {}",
                changes.join("; ")
            ),
        }
    }
}

/// Brings `order` to `cursor`, or to the next epoch where it is another order's. Returns the cursor that is true of it.
pub(crate) fn go_to(order: &mut Order, mut cursor: Cursor) -> (Cursor, Resumed) {
    let now = order.id();
    let changes = cursor.order.differences(&now);
    let gone = if changes.is_empty() {
        order.go_to(&mut cursor.position)
    } else {
        cursor.order = now;
        cursor.turns += cursor.position.turns;
        cursor.position = Position::beginning_of(cursor.position.epoch + 1);
        order.go_to(&mut cursor.position);
        return (cursor, Resumed::NextEpoch { changes });
    };
    let Some(first) = gone.first() else {
        return (cursor, Resumed::Exactly);
    };
    let resumed = Resumed::Without {
        count: gone.len() as u64,
        first: first.example.clone(),
    };
    gone.into_iter().for_each(|dropped| cursor.drops.add(dropped));
    (cursor, resumed)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::{DataConfig, Drawing};
    use crate::order::Event;
    use crate::sample::Sample;
    use crate::shard::{Archive, Shard};
    use crate::source::Source;

    /// Bytes of a picture: so many that a gap of one is not read through.
    const PICTURE: usize = 300 << 10;
    const SHARDS: usize = 3;
    const SAMPLES: usize = 40;

    /// An archive in memory that counts what is read of it.
    #[derive(Debug)]
    struct Counting {
        name: String,
        bytes: Arc<[u8]>,
        seeks: bool,
        opened: AtomicU64,
        read: Arc<AtomicU64>,
    }

    impl Counting {
        fn reader(&self, at: u64) -> Box<dyn Read + Send> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let mut rest = io::Cursor::new(Arc::clone(&self.bytes));
            rest.set_position(at);
            Box::new(Counted {
                rest,
                read: Arc::clone(&self.read),
            })
        }
    }

    struct Counted {
        rest: io::Cursor<Arc<[u8]>>,
        read: Arc<AtomicU64>,
    }

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.rest.read(buffer)?;
            self.read.fetch_add(count as u64, Ordering::Relaxed);
            Ok(count)
        }
    }

    impl Source for Counting {
        fn name(&self) -> &str {
            &self.name
        }

        fn open(&self) -> io::Result<Box<dyn Read + Send>> {
            Ok(self.reader(0))
        }

        fn open_at(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
            if self.seeks {
                return Ok(self.reader(at));
            }
            let mut reader = self.reader(0);
            io::copy(&mut (&mut reader).take(at), &mut io::sink())?;
            Ok(reader)
        }

        fn seeks(&self) -> bool {
            self.seeks
        }
    }

    /// Shards, and the bytes that are read of all of them.
    fn shards(seeks: bool) -> (Vec<Arc<Counting>>, Arc<AtomicU64>) {
        let read = Arc::new(AtomicU64::new(0));
        let shards = (0..SHARDS).map(|shard| {
            let mut builder = tar::Builder::new(Vec::new());
            for number in 0..SAMPLES {
                for (extension, size) in [("jpg", PICTURE), ("txt", 1)] {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(size as u64);
                    let path = format!("{}.{extension}", shard * SAMPLES + number);
                    builder
                        .append_data(&mut header, path, &*vec![b'x'; size])
                        .unwrap();
                }
            }
            Arc::new(Counting {
                name: shard.to_string(),
                bytes: builder.into_inner().unwrap().into(),
                seeks,
                read: Arc::clone(&read),
                opened: AtomicU64::new(0),
            })
        });
        (shards.collect(), read)
    }

    fn order(shards: &[Arc<Counting>], window: usize) -> Order {
        let shards = shards
            .iter()
            .map(|shard| {
                Arc::new(Archive::new(Arc::clone(shard) as Arc<dyn Source>, Arc::default())) as Arc<dyn Shard>
            })
            .collect();
        let config = DataConfig {
            shuffle_window: window,
            drawing: Drawing::EachOnce,
            ..DataConfig::default()
        };
        Order::new(shards, (&config).into())
    }

    fn next(order: &mut Order, cursor: &mut Cursor) -> Sample {
        let (event, moved) = order.advance();
        cursor.position.follow(moved);
        match event {
            Event::Sample(sample) => sample,
            event => panic!("{event:?}"),
        }
    }

    /// Goes through `count` samples, and on in another order; returns what that read, and the cursor.
    fn goes_on(shards: &[Arc<Counting>], read: &AtomicU64, window: usize, count: usize) -> (u64, Cursor) {
        let mut first = order(shards, window);
        let mut cursor = Cursor::start(first.id());
        (0..count).for_each(|_| drop(next(&mut first, &mut cursor)));
        shards
            .iter()
            .for_each(|shard| shard.opened.store(0, Ordering::Relaxed));
        let before = read.load(Ordering::Relaxed);
        let mut second = order(shards, window);
        let (mut resumed, how) = go_to(&mut second, cursor.clone());
        let bytes = read.load(Ordering::Relaxed) - before;
        assert_eq!(how, Resumed::Exactly);
        assert_eq!(resumed, cursor);
        let rest = SHARDS * SAMPLES - count;
        for _ in 0..rest {
            assert_eq!(next(&mut second, &mut resumed), next(&mut first, &mut cursor));
            assert_eq!(resumed, cursor);
        }
        (bytes, resumed)
    }

    #[test]
    fn of_a_source_that_seeks_only_the_window_is_read() {
        let (shards, read) = shards(true);
        for (window, count) in [(1, 100), (10, 5), (10, 95), (30, 60)] {
            let (bytes, _) = goes_on(&shards, &read, window, count);
            // The window's samples with their headers, the find read last, and the header after each of them.
            let sample = PICTURE as u64 + 4 * 512 + 512;
            let most = (window as u64 + 1) * sample;
            assert!(bytes <= most, "window {window}: {bytes} bytes, not {most}");
            assert!(bytes >= (window as u64 - 1) * sample / 2, "{bytes}");
        }
    }

    #[test]
    fn one_that_does_not_seek_is_read_once_and_only_where_the_window_reaches() {
        let (shards, read) = shards(false);
        let (bytes, _) = goes_on(&shards, &read, 10, 95);
        let archive = shards[0].bytes.len() as u64;
        // The window holds nothing of the shard that was first.
        assert!(bytes < 2 * archive && bytes > archive / 2, "{bytes} of {archive}");
        // Those that follow in the epoch are opened later, as the order comes to them.
        for shard in &shards {
            assert!(shard.opened.load(Ordering::Relaxed) <= 1, "{}", shard.name);
        }
    }

    #[test]
    fn a_cursor_is_short() {
        let (shards, read) = shards(true);
        let (_, cursor) = goes_on(&shards, &read, 30, 60);
        let mut order = order(&shards, 30);
        let (mut cursor, _) = go_to(&mut order, Cursor::start(cursor.order));
        (0..60).for_each(|_| drop(next(&mut order, &mut cursor)));
        assert_eq!(cursor.position.window.0.len(), 29);
        let json = serde_json::to_string(&cursor).unwrap();
        assert!(json.len() < 29 * 16 + 400, "{} bytes: {json}", json.len());
    }
}
