//! `--profile`: which steps are recorded, and what becomes of the recording.
//!
//! It knows when, not what: the phases are the spans that the steps name, `profile_table.rs` adds them up, and
//! `profile_trace.rs` writes everything that happened.

use std::path::PathBuf;

use libtorch_ext::profiler::Profiler;
use tch::Device;

use crate::config::Config;
use crate::error::TrainError;
use crate::output::write_text;
use crate::profile_table::ProfileTable;
use crate::profile_trace;

/// Steps of a process before those that are recorded: the first one pays for what is made once.
const WARM_UP: u32 = 1;

/// The recording of some steps of this process.
#[derive(Debug)]
pub(crate) struct Profile {
    /// How many steps are recorded.
    wanted: u32,
    /// Steps of this process that are done.
    done: u32,
    device: Device,
    folder: PathBuf,
    running: Option<Profiler>,
}

/// What a profile gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiled {
    /// The folder with table.txt and trace.json.
    pub folder: PathBuf,
    /// Where time and memory went.
    pub table: ProfileTable,
}

impl Profile {
    /// As the options say, in the run's folder.
    pub(crate) fn new(config: &Config, device: Device) -> Self {
        Profile {
            // Of several ranks the first writes.
            wanted: match config.part.rank {
                0 => config.run.profile.0,
                _ => 0,
            },
            done: 0,
            device,
            folder: config.run.output_dir.join("profile"),
            running: None,
        }
    }

    /// Begins to record if the next step is the first that is wanted.
    ///
    /// # Errors
    /// LibTorch cannot record, or the device fails.
    pub(crate) fn before_step(&mut self) -> Result<(), TrainError> {
        if self.wanted > 0 && self.done == WARM_UP {
            self.wait()?;
            self.running = Some(Profiler::start(self.device)?);
        }
        Ok(())
    }

    /// Takes note of a step, and writes what was recorded if it was the last that is wanted.
    ///
    /// # Errors
    /// The device fails, or the files cannot be written.
    pub(crate) fn after_step(&mut self) -> Result<Option<Profiled>, TrainError> {
        self.done = self.done.saturating_add(1);
        if self.done < WARM_UP.saturating_add(self.wanted) {
            return Ok(None);
        }
        let Some(profiler) = self.running.take() else {
            return Ok(None);
        };
        self.wait()?;
        let events = profiler.stop()?.events()?;
        let table = ProfileTable::of(&events, self.device);
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| TrainError::io("create", &self.folder, error))?;
        profile_trace::write(&self.folder.join("trace.json"), &events)?;
        write_text(&self.folder.join("table.txt"), &table.to_string())?;
        Ok(Some(Profiled {
            folder: self.folder.clone(),
            table,
        }))
    }

    /// Waits until the device has done what it was told, so that nothing of one step is counted to another.
    fn wait(&self) -> Result<(), TrainError> {
        if let Device::Cuda(index) = self.device {
            libtorch_ext::device::synchronize(index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ranks are given the same options and the same folder.
    #[test]
    fn only_the_first_rank_records() {
        let mut config = Config::default();
        config.set("profile", &["2".to_owned()]).unwrap();
        let wanted = [0, 1].map(|rank| {
            config.part.rank = rank;
            Profile::new(&config, Device::Cpu).wanted
        });
        assert_eq!(wanted, [2, 0]);
    }
}
