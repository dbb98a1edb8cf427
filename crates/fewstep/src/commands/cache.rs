//! `fewstep cache`: makes ahead what training would take from the VAE and the text encoders.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use fewstep_data::cache::Note;
use fewstep_train::Stop;
use fewstep_train::fill::{self, Estimate, FillObserver, Filling};

use crate::failure;
use crate::terminal;
use crate::train_flags::TrainFlags;

/// Fills the cache of a training run: what the VAE makes of each picture, and the text encoders of each caption.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: TrainFlags,
}

const EXAMPLES: &str = "\
Examples:
  fewstep cache --cache_dir cache/foxes --center_crop --pretrained_teacher_model models/sd15 \\
      --train_data_dir pictures/foxes --mixed_precision bf16 --dataloader_num_workers 4
  fewstep cache --cache_dir cache/sd15 --cache_crops 4 --random_flip --cache_max_gb 500 \\
      --pretrained_teacher_model models/sd15 --train_shards_path_or_url 'data/{00000..00099}.tar'
  fewstep cache --config runs/foxes/config.toml

Give the flags of the training run (those that have nothing to do with a cache are not looked at),
then train with the same --cache_dir. Every picture of the data is looked at once, in each crop and,
with --random_flip, both ways round. What it will take on the disk is said first. When interrupted
(Ctrl-C, SIGTERM, a kill), the same command goes on: what is there is not made again.
Exit status: 0 all is there, 1 it failed or there was no room for all, 130 or 143 stopped.";

/// Fills the cache.
///
/// # Errors
/// Options, models or data that are wrong, or no room for all of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.flags.config()?;
    let stop = Stop::on_signals().context("Ctrl-C and SIGTERM cannot be caught")?;
    let filled = fill::fill(&config, &stop, &mut Watcher::default())?;
    if !filled.drops.is_empty() {
        terminal::note(&format!("left out of the data, or read again:\n{}", filled.drops));
    }
    terminal::note(&filled.filling.to_string());
    if filled.complete {
        terminal::note("all of it is in the cache");
        return Ok(ExitCode::SUCCESS);
    }
    match stop.signal() {
        Some(signal) => {
            terminal::note("stopped; the same command goes on from here");
            Ok(failure::stopped_by(signal))
        }
        None => {
            anyhow::bail!("not all of it is in the cache; give --cache_max_gb more, or another --cache_dir")
        }
    }
}

/// Tells a person how far it is, now and then.
#[derive(Default)]
struct Watcher {
    last: Option<Instant>,
}

const EVERY: Duration = Duration::from_secs(15);

impl FillObserver for Watcher {
    fn started(&mut self, estimate: &Estimate) {
        terminal::note(&estimate.to_string());
        self.last = Some(Instant::now());
    }

    fn progress(&mut self, filling: &Filling) {
        if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            terminal::note(&filling.to_string());
        }
    }

    fn note(&mut self, note: &Note) {
        terminal::note(&format!("warning: {note}"));
    }
}
