//! `fewstep shards pack`: a folder of pictures with captions to WebDataset shards.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fewstep_data::pack::{PackConfig, Packed, pack};
use fewstep_data::{Limits, PictureFolder};
use indicatif::{ProgressBar, ProgressStyle};

use super::size;
use crate::terminal;

/// Makes WebDataset shards of a folder of pictures with captions.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder: pictures with metadata.jsonl, .csv or .parquet or a .txt beside each, or parquet files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The folder of the shards, which must not exist or be empty
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Samples in a shard; the last one may have fewer
    #[arg(long, value_name = "SAMPLES", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    shard_size: u64,
    /// Mix the pictures by this seed; without it they keep the folder's order
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// The column with the pictures in parquet files, or with their names in metadata without file_name
    #[arg(long, value_name = "COLUMN", default_value = "image")]
    image_column: String,
    /// The column with the captions
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    caption_column: String,
}

const EXAMPLES: &str = "\
Examples:
  fewstep shards pack pictures/foxes shards/foxes --shard_size 1000
  fewstep shards pack downloads/captioned shards/captioned --caption_column caption --seed 1
  fewstep train --train_shards_path_or_url shards/foxes ...

OUT gets 00000.tar, 00001.tar and so on. A sample is the picture as it is (.jpg, .png or .webp), its
caption (.txt) and its width, height, file and caption (.json). Of several captions .txt has the first,
and .json the list. What cannot be used is left out and counted.

Training shuffles the shards, and their samples within a window of --shuffle_buffer_size: where a
folder is sorted by subject, give --seed.

The shards are written in OUT.packing, which becomes OUT when all are complete. After an
interruption the same command starts anew.";

/// Packs, and says what came of it.
///
/// # Errors
/// A folder without captioned pictures, or a place that is taken or cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = PackConfig {
        folder: PictureFolder {
            path: args.folder.clone(),
            image_column: args.image_column.clone(),
            caption_column: args.caption_column.clone(),
        },
        out: args.out.clone(),
        shard_size: args.shard_size,
        seed: args.seed,
        limits: Limits::default(),
    };
    let mut shown = Shown::new();
    let packed = pack(&config, &mut |packed| shown.update(packed));
    shown.finish();
    terminal::result(&closing(&packed?, args));
    Ok(ExitCode::SUCCESS)
}

fn closing(packed: &Packed, args: &Args) -> String {
    let mut text = format!(
        "packed {} samples with {} of pictures into {} shard(s) in {}",
        packed.samples,
        size(packed.picture_bytes),
        packed.shards,
        args.out.display()
    );
    if packed.further_captions > 0 {
        text += &format!(
            "\n{} further captions are in the samples' .json alone, under `caption`",
            packed.further_captions
        );
    }
    if !packed.drops.is_empty() {
        text += &format!("\nleft out:\n{}", packed.drops);
    }
    text
}

/// How far it is: on a terminal a line that is redrawn, elsewhere a line now and then.
struct Shown {
    line: Option<ProgressBar>,
    last: Instant,
}

/// Where nobody watches, a line is written this often.
const EVERY: Duration = Duration::from_secs(15);

impl Shown {
    fn new() -> Self {
        // The template is a constant; were it wrong, indicatif's own style would do.
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let line = terminal::is_watched().then(|| ProgressBar::new_spinner().with_style(style));
        if let Some(line) = &line {
            line.enable_steady_tick(Duration::from_millis(200));
        }
        Shown {
            line,
            last: Instant::now(),
        }
    }

    fn update(&mut self, packed: &Packed) {
        let text = || {
            let (samples, shards, dropped) = (packed.samples, packed.shards, packed.drops.total());
            format!("{samples} samples in {shards} shard(s), {dropped} left out")
        };
        match &self.line {
            Some(line) => line.set_message(text()),
            None if self.last.elapsed() >= EVERY => {
                self.last = Instant::now();
                terminal::note(&text());
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
