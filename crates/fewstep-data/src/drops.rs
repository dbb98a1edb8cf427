//! What was left out and why: counts by cause, each with its first example. It knows no pictures and no tars.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Why a sample or a shard was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A shard could not be opened.
    UnreadableShard,
    /// A shard ended early, could not be read to its end, or is no tar archive. What came before was used.
    BrokenShard,
    /// A shard without a single sample.
    EmptyShard,
    /// A sample without a picture.
    MissingImage,
    /// A sample without a caption.
    MissingCaption,
    /// A sample with a picture or caption file over the limit.
    OversizedMember,
    /// A caption that is not UTF-8.
    CaptionNotUtf8,
    /// A row of a metadata file that cannot be understood.
    BadRow,
    /// A picture or caption file of a folder that is there and cannot be read.
    UnreadableFile,
    /// A picture that cannot be decoded.
    BadPicture,
    /// A picture with too many pixels.
    OversizedPicture,
    /// A sample that a run was to go on with, or the rest of a shard, that can no longer be read.
    Gone,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::UnreadableShard => "shard cannot be opened",
            Cause::BrokenShard => "shard is broken",
            Cause::EmptyShard => "shard without samples",
            Cause::MissingImage => "no picture",
            Cause::MissingCaption => "no caption",
            Cause::OversizedMember => "file too large",
            Cause::CaptionNotUtf8 => "caption is not UTF-8",
            Cause::BadRow => "bad metadata row",
            Cause::UnreadableFile => "file cannot be read",
            Cause::BadPicture => "bad picture",
            Cause::OversizedPicture => "picture too large",
            Cause::Gone => "gone when resumed",
        })
    }
}

/// One thing that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Why.
    pub cause: Cause,
    /// The shard, the sample's key where there is one, and the particulars.
    pub example: String,
}

impl Dropped {
    /// Names come from shards, and shards may be hostile: control characters are escaped and endless names cut.
    pub fn new(cause: Cause, example: &str) -> Self {
        const LONGEST: usize = 400;
        let mut text = String::with_capacity(example.len().min(LONGEST));
        for c in example.chars() {
            if text.len() >= LONGEST {
                text.push('…');
                break;
            }
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        Dropped { cause, example: text }
    }

    /// A shard that cannot be opened.
    pub(crate) fn shard(name: &str, error: &io::Error) -> Self {
        Dropped::new(Cause::UnreadableShard, &format!("{name}: {error}"))
    }
}

/// How often a cause struck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Times.
    pub count: u64,
    /// The first case: shard, sample and particulars.
    pub first: String,
}

/// Everything left out so far. As text it is a small table; serialised it is a map from cause to count and first
/// example.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drops {
    tallies: BTreeMap<Cause, Tally>,
}

impl Drops {
    /// Counts one more.
    pub fn add(&mut self, dropped: Dropped) {
        self.tallies
            .entry(dropped.cause)
            .and_modify(|tally| tally.count += 1)
            .or_insert(Tally {
                count: 1,
                first: dropped.example,
            });
    }

    /// How often `cause` struck.
    pub fn count(&self, cause: Cause) -> u64 {
        self.tallies.get(&cause).map_or(0, |tally| tally.count)
    }

    /// All causes together.
    pub fn total(&self) -> u64 {
        self.tallies.values().map(|tally| tally.count).sum()
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    /// The causes that struck, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, &Tally)> {
        self.tallies.iter().map(|(&cause, tally)| (cause, tally))
    }
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing was dropped");
        }
        write!(f, "{:<24}{:>10}  first example", "cause", "dropped")?;
        for (cause, tally) in self.iter() {
            write!(f, "\n{cause:<24}{:>10}  {}", tally.count, tally.first)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_cannot_reach_the_terminal() {
        assert_eq!(
            Dropped::new(Cause::BadPicture, "a\x1b[2J\nb é").example,
            "a\\u{1b}[2J\\nb é"
        );
        assert!(
            Dropped::new(Cause::BadPicture, &"x".repeat(100_000))
                .example
                .len()
                < 500
        );
    }

    #[test]
    fn counts_by_cause_and_keeps_the_first_example() {
        let mut drops = Drops::default();
        assert_eq!(drops.to_string(), "nothing was dropped");
        drops.add(Dropped::new(Cause::BadPicture, "a.tar: 1"));
        drops.add(Dropped::new(Cause::MissingCaption, "a.tar: 2"));
        drops.add(Dropped::new(Cause::BadPicture, "a.tar: 3"));
        assert_eq!((drops.count(Cause::BadPicture), drops.total()), (2, 3));
        let text = drops.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "cause                      dropped  first example");
        assert_eq!(lines[1], "no caption                       1  a.tar: 2");
        assert_eq!(lines[2], "bad picture                      2  a.tar: 1");
    }

    #[test]
    fn survives_serialisation() {
        let mut drops = Drops::default();
        drops.add(Dropped::new(Cause::CaptionNotUtf8, "a.tar: 1"));
        let json = serde_json::to_string(&drops).unwrap();
        assert_eq!(json, r#"{"caption_not_utf8":{"count":1,"first":"a.tar: 1"}}"#);
        assert_eq!(serde_json::from_str::<Drops>(&json).unwrap(), drops);
    }
}
