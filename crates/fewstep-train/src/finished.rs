//! finished.json: that a run has come to its end, and what it was, so that the same command given again finds it
//! done even where no checkpoint was kept.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use fewstep_data::Drops;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::identity;
use crate::observer::{Ending, Report};
use crate::sealed;
use crate::skipped::Skipped;

const NAME: &str = "finished.json";
/// The layout of the file that this version writes and reads.
const VERSION: u32 = 1;

/// A run that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// Optimiser steps done.
    pub(crate) steps: u64,
    /// Samples seen.
    pub(crate) samples: u64,
    /// Updates that were skipped.
    pub(crate) skipped: Skipped,
    /// Samples and shards left out.
    pub(crate) dropped: Drops,
    /// The options that made the run what it was, as words by name.
    pub(crate) config: BTreeMap<String, String>,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    run: Finished,
    /// The files of its results.
    results: Vec<String>,
}

impl Finished {
    /// The run that is finished in this folder, if one is. Where a file of its results is not there any more, or
    /// the note itself is damaged, there is none.
    pub(crate) fn read(output_dir: &Path) -> Option<Self> {
        let Stored { run, results } = sealed::read(&output_dir.join(NAME), VERSION).ok()?;
        results
            .iter()
            .all(|name| output_dir.join(name).is_file())
            .then_some(run)
    }

    /// Writes that the run is finished, once all of `results` are there.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn write<'a>(
        &self,
        output_dir: &Path,
        results: impl Iterator<Item = &'a str>,
    ) -> Result<(), TrainError> {
        let stored = Stored {
            run: self.clone(),
            results: results.map(str::to_owned).collect(),
        };
        sealed::write(&output_dir.join(NAME), VERSION, &stored)
    }

    /// Takes the note back, before results are written anew.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn forget(output_dir: &Path) -> Result<(), TrainError> {
        let path = output_dir.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(TrainError::io("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Whether a run with these options and so many steps is this one, or a shorter one.
    pub(crate) fn covers(&self, config: &BTreeMap<String, String>, total_steps: u64) -> bool {
        self.config == *config && self.steps >= total_steps
    }

    /// Why a run with other options cannot start in this folder, where it left no checkpoint to go on from.
    pub(crate) fn in_the_way(&self, output_dir: &Path, config: &BTreeMap<String, String>) -> TrainError {
        TrainError::FinishedRun {
            folder: output_dir.to_owned(),
            steps: self.steps,
            differences: identity::differences(&self.config, config),
        }
    }

    /// As if the run had just ended.
    pub(crate) fn report(self) -> Report {
        Report {
            ending: Ending::FinishedBefore,
            steps: self.steps,
            samples: self.samples,
            skipped: self.skipped,
            dropped: self.dropped,
        }
    }
}
