//! What a loader is asked for. It says nothing of how that is done.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::Latents;
use crate::error::DataError;
use crate::picture::Interpolation;
use crate::wanted::Wanted;

/// Everything that shapes the samples a [`Loader`](crate::Loader) delivers, and how fast it does.
#[derive(Debug, Clone)]
pub struct DataConfig {
    /// Where the samples come from.
    pub origin: Origin,
    /// Height and width of every picture delivered, in pixels.
    pub resolution: u32,
    /// Samples a batch, on each rank. There are no partial batches: a batch may span two epochs.
    pub batch_size: usize,
    /// Threads that decode ahead of the consumer; with 0 everything happens in line, in `next_batch`.
    /// It changes no sample.
    pub num_workers: usize,
    /// Seed of order, crops and flips.
    pub seed: u64,
    /// How pictures are resized.
    pub interpolation: Interpolation,
    /// Which square of the resized picture is taken.
    pub crop: Crop,
    /// Whether pictures are mirrored.
    pub flip: Flip,
    /// Samples (still encoded, in memory) among which the next one is drawn. 1 keeps the order within a shard.
    pub shuffle_window: usize,
    /// How the shards of an epoch are chosen.
    pub drawing: Drawing,
    /// Which part of an epoch this loader delivers.
    pub part: Part,
    /// Which samples are taken, and what of them.
    pub wanted: Wanted,
    /// Bounds on what a shard may ask of this machine.
    pub limits: Limits,
    /// How long to wait for shards that are elsewhere, and how often to ask again.
    pub sources: SourceOptions,
    /// When to give up.
    pub giving_up: GivingUp,
    /// What a VAE made of the pictures before. Not with [`Crop::Random`], where no square comes again.
    pub latents: Option<Latents>,
}

impl DataConfig {
    /// The most bytes that decoded pictures take on their way to the consumer and in its hands; encoded ones, of the
    /// shuffle window, come on top.
    pub fn bytes_ahead(&self) -> u64 {
        crate::threads::bytes_ahead(self)
    }
}

/// When a loader gives up, with the table of what was left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GivingUp {
    /// The most of the samples looked at that may be broken, incomplete or beyond a limit, as a fraction; and the most of
    /// the shards opened that may hold nothing or not be read at all. Judged once a hundred samples were looked at or
    /// twenty shards opened, and at the end of each epoch.
    pub max_bad_fraction: f64,
    /// The longest wait for a usable sample.
    pub max_wait: Duration,
}

impl Default for GivingUp {
    fn default() -> Self {
        GivingUp {
            max_bad_fraction: 0.9,
            max_wait: Duration::from_secs(60),
        }
    }
}

/// Where samples come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Shard specs, as [`spec::expand`](crate::spec::expand) takes them.
    Shards(Vec<String>),
    /// A folder of pictures, as [`folder::list`](crate::folder::list) takes it.
    Folder(PictureFolder),
}

impl Origin {
    /// What the shards of the order are called, to be counted in a message.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Origin::Shards(_) => "shard(s)",
            Origin::Folder(_) => "picture(s), metadata row(s) or parquet row group(s)",
        }
    }
}

/// A folder of captioned pictures, and the names of the columns that say which and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFolder {
    /// The folder; those inside it belong to it.
    pub path: PathBuf,
    /// The column with the pictures in parquet files. In metadata files, the one with the pictures' names where there
    /// is no `file_name`.
    pub image_column: String,
    /// The column with the captions.
    pub caption_column: String,
}

impl PictureFolder {
    /// The folder at `path`, with the columns that `datasets` writes: `image` and `text`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PictureFolder {
            path: path.into(),
            image_column: "image".into(),
            caption_column: "text".into(),
        }
    }
}

/// Which square of the resized picture is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crop {
    /// Uniform over all places.
    #[default]
    Random,
    /// One of so many places of each picture, which are uniform over all and the same in every run: a function of the
    /// picture's file and of the place's number alone, so that more of them are those before and some more.
    OneOf(u32),
    /// The middle; where that falls between two pixels, the even one, as torchvision rounds.
    Center,
}

/// Whether pictures are mirrored left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flip {
    /// No picture is.
    #[default]
    Never,
    /// Every second one is, by chance.
    Random,
}

/// How the shards of an epoch are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawing {
    /// Each once, in an order shuffled anew for each epoch.
    #[default]
    EachOnce,
    /// As many as there are, each drawn from all of them: one may come several times, another not at all.
    WithReplacement,
}

impl fmt::Display for Drawing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Drawing::EachOnce => "read once an epoch each",
            Drawing::WithReplacement => "drawn with replacement",
        })
    }
}

/// Which part of an epoch a loader delivers, where several share the data: each of `ranks` processes has one with its
/// own `rank`. Together they deliver every sample of an epoch once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of this loader, from 0.
    pub rank: u64,
    /// How many there are.
    pub ranks: u64,
}

impl Part {
    /// All of it.
    pub const WHOLE: Part = Part { rank: 0, ranks: 1 };
}

impl Default for Part {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// Bounds on what a shard may ask of this machine. A sample beyond them is dropped and counted.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest picture file that is read into memory, in bytes.
    pub max_member_bytes: u64,
    /// The largest file with a caption or JSON that is read into memory, in bytes.
    pub max_text_bytes: u64,
    /// The most pixels a picture may have, as stored and again after the resize. Decoding takes up to twelve bytes a pixel.
    pub max_pixels: u64,
    /// The most pixels a side of a picture may have.
    pub max_side: u32,
    /// The most bytes the shuffle window may hold: it stays smaller where pictures are huge. At least one sample fits.
    pub max_window_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_member_bytes: 128 << 20,
            max_text_bytes: 1 << 20,
            max_pixels: 100_000_000,
            // As many as a JPEG can have.
            max_side: 65_535,
            max_window_bytes: 1 << 30,
        }
    }
}

/// How long to wait for what is no local file, and how often to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceOptions {
    /// The longest silence: a server, connection or command that sends nothing for so long is given up, and asked
    /// again. It counts only while bytes are waited for.
    pub timeout: Duration,
    /// How often a shard is asked for again, in a row, before it is given up; less often where that could take longer
    /// than `patience`. Whenever a new byte has come the count
    /// starts anew. A command is run again twice at most, and standard input never.
    pub retries: u32,
    /// The longest time for which a shard is asked for again and again: the loader's own wait for a sample, so that other
    /// shards get their turn before it gives up.
    pub patience: Duration,
    /// The wait before it is asked for again the first time; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest of these waits, unless a server asks for more.
    pub longest_wait: Duration,
    /// Bytes of an open shard that are read ahead.
    pub read_ahead_bytes: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions {
            timeout: Duration::from_secs(15),
            retries: 5,
            patience: Duration::from_secs(60),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            read_ahead_bytes: 32 << 20,
        }
    }
}

impl SourceOptions {
    /// The wait after so many failures in a row and one more.
    pub(crate) fn wait(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first_wait.saturating_mul(doubled).min(self.longest_wait)
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            origin: Origin::Shards(Vec::new()),
            resolution: 512,
            batch_size: 16,
            num_workers: 0,
            seed: 0,
            interpolation: Interpolation::default(),
            crop: Crop::default(),
            flip: Flip::default(),
            shuffle_window: 1000,
            drawing: Drawing::default(),
            part: Part::default(),
            wanted: Wanted::default(),
            limits: Limits::default(),
            sources: SourceOptions::default(),
            giving_up: GivingUp::default(),
            latents: None,
        }
    }
}

impl DataConfig {
    /// Refuses what no loader can do.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let refuse = |what, why| Err(DataError::Config { what, why });
        if self.resolution == 0 {
            return refuse("resolution", "must be at least 1 pixel");
        }
        if self.batch_size == 0 {
            return refuse("batch size", "must be at least 1");
        }
        if self.shuffle_window == 0 {
            return refuse(
                "shuffle window",
                "must be at least 1 (which keeps the order within a shard)",
            );
        }
        if self.crop == Crop::OneOf(0) {
            return refuse("number of crops a picture", "must be at least 1");
        }
        if self.part.rank >= self.part.ranks {
            return refuse("rank", "must be below the number of ranks");
        }
        if self.wanted.reads_json() && matches!(self.origin, Origin::Folder(_)) {
            return refuse(
                "choice of samples by their JSON",
                "is for shards; a folder has no JSON",
            );
        }
        if !(0.0..=1.0).contains(&self.giving_up.max_bad_fraction) {
            return refuse("fraction of bad samples", "must be between 0 and 1");
        }
        if self.giving_up.max_wait.is_zero() {
            return refuse("wait for a sample", "must be longer than nothing");
        }
        if self.limits.max_window_bytes == 0 {
            return refuse("limit on the shuffle window", "must be at least 1 byte");
        }
        if self.sources.timeout.is_zero() {
            return refuse("time limit on the data's silence", "must be above 0");
        }
        if u64::from(self.resolution).pow(2) > self.limits.max_pixels {
            return refuse("resolution", "is beyond the limit on the pixels of a picture");
        }
        Ok(())
    }
}
