//! What was left out and why: counts by cause, each with its first example. It knows no pictures and no tars.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::source::cause_of;

/// Why a sample or a shard was left out, or something was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A shard could not be opened.
    UnreadableShard,
    /// A shard ended early, could not be read to its end, or is no tar archive. What came before was used.
    BrokenShard,
    /// A shard that could not be reached, however often it was tried.
    UnreachableShard,
    /// A shard of which not a byte came for too long, however often it was tried.
    SilentShard,
    /// A shard whose command failed, or could not be read to its end. What came before was used.
    FailedCommand,
    /// A shard without a single sample.
    EmptyShard,
    /// A sample without a picture.
    MissingImage,
    /// A sample without a caption.
    MissingCaption,
    /// A sample whose captions hold nothing but white space.
    EmptyCaption,
    /// A sample with a picture, caption or JSON file over the limit.
    OversizedMember,
    /// A member of an archive whose path leads out of it.
    UnsafePath,
    /// A caption that is not UTF-8.
    CaptionNotUtf8,
    /// A sample's JSON that was needed and cannot be read.
    BadJson,
    /// A row of a metadata file that cannot be understood.
    BadRow,
    /// A picture or caption file of a folder that is there and cannot be read.
    UnreadableFile,
    /// A picture that cannot be decoded.
    BadPicture,
    /// A picture with too many pixels, or too wide or tall.
    OversizedPicture,
    /// A sample that a run was to go on with, or the rest of a shard, that can no longer be read.
    Gone,
    /// A picture that is smaller than asked for.
    SmallPicture,
    /// A sample that is more likely to have a watermark than asked for.
    Watermark,
    /// A sample whose aesthetic score is lower than asked for.
    LowAesthetic,
    /// A sample whose JSON lacks a score by which samples are chosen.
    Unscored,
    /// A connection that broke or was not to be had. It was tried again: nothing was left out.
    RetriedConnection,
    /// Silence for too long. It was tried again.
    RetriedSilence,
    /// A server that could not answer. It was tried again.
    RetriedServer,
    /// A command that failed. It was run again.
    RetriedCommand,
}

/// Whose doing it is that something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The data's: they are broken, incomplete or beyond a limit.
    Broken,
    /// The user's: they are sound and were not asked for.
    Unwanted,
    /// Nobody's: it was tried again, and nothing was left out for it.
    Passed,
}

impl Cause {
    /// Every cause, in the order in which they are shown.
    pub const ALL: [Cause; 26] = [
        Cause::UnreadableShard,
        Cause::BrokenShard,
        Cause::UnreachableShard,
        Cause::SilentShard,
        Cause::FailedCommand,
        Cause::EmptyShard,
        Cause::MissingImage,
        Cause::MissingCaption,
        Cause::EmptyCaption,
        Cause::OversizedMember,
        Cause::UnsafePath,
        Cause::CaptionNotUtf8,
        Cause::BadJson,
        Cause::BadRow,
        Cause::UnreadableFile,
        Cause::BadPicture,
        Cause::OversizedPicture,
        Cause::Gone,
        Cause::SmallPicture,
        Cause::Watermark,
        Cause::LowAesthetic,
        Cause::Unscored,
        Cause::RetriedConnection,
        Cause::RetriedSilence,
        Cause::RetriedServer,
        Cause::RetriedCommand,
    ];

    /// Whose doing it is.
    pub fn origin(self) -> Origin {
        match self {
            Cause::SmallPicture | Cause::Watermark | Cause::LowAesthetic | Cause::Unscored => {
                Origin::Unwanted
            }
            Cause::RetriedConnection
            | Cause::RetriedSilence
            | Cause::RetriedServer
            | Cause::RetriedCommand => Origin::Passed,
            _ => Origin::Broken,
        }
    }

    /// Whether a shard is counted by it, and not a sample.
    pub fn is_of_a_shard(self) -> bool {
        matches!(
            self,
            Cause::UnreadableShard
                | Cause::BrokenShard
                | Cause::EmptyShard
                | Cause::UnreachableShard
                | Cause::SilentShard
                | Cause::FailedCommand
        )
    }

    /// What a person may do who wants these samples after all.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Cause::SmallPicture => Some("a lower --min_size enlarges small pictures, 0 all of them"),
            Cause::Watermark => Some("a higher --max_pwatermark takes more of them"),
            Cause::LowAesthetic => Some("a lower --min_aesthetic takes more of them"),
            Cause::Unscored => Some(
                "--pwatermark_key and --aesthetic_key name other keys of the JSON, --keep_unscored takes samples \
                 without a score",
            ),
            Cause::MissingCaption => {
                Some("captions are .txt, .text or .caption files, or with --caption_key a key of the JSON")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Cause::UnreadableShard => "shard cannot be opened",
            Cause::BrokenShard => "shard is broken",
            Cause::UnreachableShard => "shard out of reach",
            Cause::SilentShard => "shard fell silent",
            Cause::FailedCommand => "shard's command failed",
            Cause::EmptyShard => "shard without samples",
            Cause::MissingImage => "no picture",
            Cause::MissingCaption => "no caption",
            Cause::EmptyCaption => "empty caption",
            Cause::OversizedMember => "file too large",
            Cause::UnsafePath => "unsafe path",
            Cause::CaptionNotUtf8 => "caption is not UTF-8",
            Cause::BadJson => "bad JSON",
            Cause::BadRow => "bad metadata row",
            Cause::UnreadableFile => "file cannot be read",
            Cause::BadPicture => "bad picture",
            Cause::OversizedPicture => "picture too large",
            Cause::Gone => "gone when resumed",
            Cause::SmallPicture => "picture too small",
            Cause::Watermark => "watermark",
            Cause::LowAesthetic => "low aesthetic score",
            Cause::Unscored => "no score in its JSON",
            Cause::RetriedConnection => "connection, tried again",
            Cause::RetriedSilence => "silence, tried again",
            Cause::RetriedServer => "server, tried again",
            Cause::RetriedCommand => "command, run again",
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
        let cause = cause_of(error, Cause::UnreadableShard);
        Dropped::new(cause, &format!("{name}: {error}"))
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

    /// Counts all of `others`.
    pub fn absorb(&mut self, others: Drops) {
        for (cause, more) in others.tallies {
            self.tallies
                .entry(cause)
                .and_modify(|tally| tally.count += more.count)
                .or_insert(more);
        }
    }

    /// How often `cause` struck.
    pub fn count(&self, cause: Cause) -> u64 {
        self.tallies.get(&cause).map_or(0, |tally| tally.count)
    }

    /// Everything together that was left out; what was tried again is not.
    pub fn total(&self) -> u64 {
        self.sum(|cause| cause.origin() != Origin::Passed)
    }

    /// Samples that are broken, incomplete or beyond a limit.
    pub fn broken_samples(&self) -> u64 {
        self.sum(|cause| cause.origin() == Origin::Broken && !cause.is_of_a_shard())
    }

    /// Samples that were left out for whatever reason.
    pub fn samples(&self) -> u64 {
        self.sum(|cause| cause.origin() != Origin::Passed && !cause.is_of_a_shard())
    }

    /// Shards of which nothing could be read.
    pub fn lost_shards(&self) -> u64 {
        self.sum(|cause| matches!(cause, Cause::UnreadableShard | Cause::EmptyShard))
    }

    fn sum(&self, of: impl Fn(Cause) -> bool) -> u64 {
        let those = self.iter().filter(|(cause, _)| of(*cause));
        those.map(|(_, tally)| tally.count).sum()
    }

    /// Whether nothing was left out, nor tried again.
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }

    /// A line for each cause of at least a tenth of the drops that says what a person may do about it.
    pub fn advice(&self) -> String {
        let weighty = |(cause, tally): (Cause, &Tally)| {
            let remedy = cause
                .remedy()
                .filter(|_| tally.count >= self.total().div_ceil(10))?;
            Some(format!("\n{cause}: {remedy}"))
        };
        self.iter().filter_map(weighty).collect()
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
        write!(f, "{:<24}{:>10}  first example", "cause", "times")?;
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
        assert_eq!(lines[0], "cause                        times  first example");
        assert_eq!(lines[1], "no caption                       1  a.tar: 2");
        assert_eq!(lines[2], "bad picture                      2  a.tar: 1");
    }

    #[test]
    fn gives_advice_on_what_weighs() {
        let mut drops = Drops::default();
        drops.add(Dropped::new(Cause::SmallPicture, "a"));
        drops.add(Dropped::new(Cause::BadPicture, "b"));
        assert!(
            drops.advice().starts_with("\npicture too small: ") && drops.advice().contains("--min_size"),
            "{}",
            drops.advice()
        );
        assert_eq!((drops.broken_samples(), drops.samples()), (1, 2));
        for _ in 0..20 {
            drops.add(Dropped::new(Cause::BadPicture, "c"));
        }
        assert_eq!(drops.advice(), "");
    }

    #[test]
    fn what_was_tried_again_was_not_left_out() {
        let mut drops = Drops::default();
        drops.add(Dropped::new(Cause::BadPicture, "a.tar: 1"));
        let mut retried = Drops::default();
        retried.add(Dropped::new(Cause::RetriedServer, "b.tar: busy"));
        retried.add(Dropped::new(Cause::RetriedServer, "c.tar: busy"));
        drops.absorb(retried.clone());
        drops.absorb(retried);
        assert_eq!((drops.count(Cause::RetriedServer), drops.total()), (4, 1));
        assert!(
            drops
                .to_string()
                .ends_with("server, tried again              4  b.tar: busy"),
            "{drops}"
        );
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
