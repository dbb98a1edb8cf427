//! Writing checkpoints: on a thread of its own from a copy of the tensors, so that the run waits for the copy
//! alone, or in line where there is no room for one.
//!
//! It knows how a checkpoint gets onto the disk, not when one is due nor what is done when it does not get there.

use std::fs::File;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::checkpoint::{self, Checkpoint, State};
use crate::error::TrainError;
use crate::snapshot::Snapshot;

/// What must be left of the memory beside the copy: for pictures that are decoded ahead, and for the system's own
/// file cache.
const ROOM_TO_LEAVE: u64 = 1 << 30;

/// A checkpoint to be written.
#[derive(Debug)]
pub(crate) struct Job {
    /// The run's folder.
    pub(crate) output_dir: PathBuf,
    /// Everything but tensors.
    pub(crate) state: State,
    /// How many checkpoints are kept.
    pub(crate) limit: Option<u64>,
    /// metrics.jsonl, whose lines up to here must be on the disk first.
    pub(crate) metrics: Option<File>,
}

/// A save that has ended, one way or the other.
#[derive(Debug)]
pub(crate) struct Saved {
    /// The step after which it was.
    pub(crate) step: u64,
    /// The checkpoint's folder, or why there is none.
    pub(crate) result: Result<PathBuf, TrainError>,
    /// How long the run waited for it.
    pub(crate) waited: Duration,
    /// How long it took from beginning to end.
    pub(crate) took: Duration,
    /// Where it was written.
    pub(crate) place: Place,
}

/// Where a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread of its own.
    Background,
    /// By the run itself.
    InLine,
}

/// Writes one checkpoint after another. Dropping it waits for the one that is being written.
#[derive(Debug)]
pub(crate) struct Saver {
    /// Says how much memory may still be taken, where the system knows.
    available: fn() -> Option<u64>,
    /// The copy of an earlier save, to be filled again: it is taken once and kept for the run, so that later saves
    /// can rely on it.
    copy: Option<Snapshot>,
    writing: Option<Writing>,
}

/// A save on its thread.
#[derive(Debug)]
struct Writing {
    step: u64,
    waited: Duration,
    thread: JoinHandle<(Result<PathBuf, TrainError>, Duration, Snapshot)>,
}

impl Saver {
    pub(crate) fn new(available: fn() -> Option<u64>) -> Self {
        Saver {
            available,
            copy: None,
            writing: None,
        }
    }

    /// Writes a checkpoint of what the tensors hold now: on a thread where memory allows, and then nothing is
    /// returned yet, or else in line. An earlier one must have ended: call [`Saver::wait`] first.
    pub(crate) fn save(&mut self, job: Job, tensors: &Snapshot) -> Option<Saved> {
        debug_assert!(self.writing.is_none());
        let begun = Instant::now();
        match self.take_copy(tensors) {
            Some(copy) => self.start(job, copy, begun),
            None => Some(save_in_line(job, tensors)),
        }
    }

    /// The save that has ended since somebody last asked.
    pub(crate) fn ended(&mut self) -> Option<Saved> {
        match self.writing.as_ref()?.thread.is_finished() {
            true => self.wait(),
            false => None,
        }
    }

    /// Waits for the save that is going on, if one is.
    pub(crate) fn wait(&mut self) -> Option<Saved> {
        let Writing { step, waited, thread } = self.writing.take()?;
        let begun = Instant::now();
        let (result, took) = match thread.join() {
            Ok((result, took, copy)) => {
                self.copy = Some(copy);
                (result, took)
            }
            Err(_) => (Err(TrainError::SaverDied), Duration::ZERO),
        };
        Some(Saved {
            step,
            result,
            waited: waited + begun.elapsed(),
            took,
            place: Place::Background,
        })
    }

    /// A copy of the tensors, where there is room for one.
    fn take_copy(&mut self, tensors: &Snapshot) -> Option<Snapshot> {
        if let Some(mut copy) = self.copy.take() {
            // The copy has the shapes of what it was taken from, so that this cannot fail but with the device.
            return copy.copy_from(tensors).ok().map(|()| copy);
        }
        let needed = tensors.bytes() + ROOM_TO_LEAVE;
        match (self.available)() {
            Some(available) if available >= needed => tensors.copied().ok(),
            _ => None,
        }
    }

    fn start(&mut self, job: Job, copy: Snapshot, begun: Instant) -> Option<Saved> {
        let step = job.state.step;
        let work = move || {
            let result = write(job, &copy);
            (result, begun.elapsed(), copy)
        };
        match thread::Builder::new().name("checkpoint".to_owned()).spawn(work) {
            Ok(thread) => {
                let waited = begun.elapsed();
                self.writing = Some(Writing { step, waited, thread });
                None
            }
            Err(source) => Some(Saved {
                step,
                result: Err(TrainError::NoThread { source }),
                waited: begun.elapsed(),
                took: begun.elapsed(),
                place: Place::Background,
            }),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Writes a checkpoint while the run waits.
pub(crate) fn save_in_line(job: Job, tensors: &Snapshot) -> Saved {
    let begun = Instant::now();
    let step = job.state.step;
    let result = write(job, tensors);
    Saved {
        step,
        result,
        waited: begun.elapsed(),
        took: begun.elapsed(),
        place: Place::InLine,
    }
}

/// Writes the checkpoint, then lets old ones go.
fn write(job: Job, tensors: &Snapshot) -> Result<PathBuf, TrainError> {
    let Job {
        output_dir,
        state,
        limit,
        metrics,
    } = job;
    if let Some(metrics) = metrics {
        let sync = |error| TrainError::io("sync", &output_dir.join(crate::metrics::NAME), error);
        metrics.sync_all().map_err(sync)?;
    }
    let Checkpoint { path } = Checkpoint::write(&output_dir, &state, tensors)?;
    if let Some(limit) = limit {
        checkpoint::prune(&output_dir, limit, state.step)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checked;
    use crate::config::Config;
    use crate::student::Unets;
    use crate::update::Updater;
    use fewstep_models::weights::{Component, read_tensors};
    use std::path::Path;
    use tch::{Device, Kind};

    fn job(output_dir: &Path, step: u64) -> Job {
        Job {
            output_dir: output_dir.to_owned(),
            state: State::after(step),
            limit: None,
            metrics: None,
        }
    }

    /// Checkpoints of three steps while the weights change, the first number of each, and where each was written.
    fn three_saves(available: fn() -> Option<u64>) -> Vec<(f64, Place)> {
        let folder = tempfile::tempdir().unwrap();
        let teacher = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/models/tiny-sd/unet"
        );
        let component = Component::open(Path::new(teacher)).unwrap();
        let config = Config::default();
        let unets = Unets::from_teacher(&component, &config, Kind::Float, Device::Cpu).unwrap();
        let updater = Updater::new(&unets.student, &config, 10, None).unwrap();
        let mut saver = Saver::new(available);
        let weight = unets.student.master().get("conv_in.bias").unwrap();
        let mut found = Vec::new();
        for step in 1..=3 {
            let _ = weight.shallow_clone().fill_(step as f64);
            let tensors = Snapshot::shared(&unets, &updater.optimizer);
            let saved = saver.save(job(folder.path(), step), &tensors);
            // The run goes on while the thread writes.
            let _ = weight.shallow_clone().fill_(-1.0);
            let saved = saved.or_else(|| saver.wait()).unwrap();
            assert_eq!(saved.step, step);
            let path = saved.result.unwrap();
            let file = path.join("unet/diffusion_pytorch_model.safetensors");
            let written = read_tensors(&file).unwrap()["conv_in.bias"].double_value(&[0]);
            assert!(matches!(Checkpoint { path }.check().unwrap(), Checked::Whole(_)));
            found.push((written, saved.place));
        }
        found
    }

    #[test]
    fn what_is_written_is_what_the_weights_were_then() {
        let (beside, in_line) = (Place::Background, Place::InLine);
        assert_eq!(
            three_saves(|| Some(1 << 40)),
            [(1.0, beside), (2.0, beside), (3.0, beside)]
        );
        // A copy that fits, but leaves nothing beside it, and a system that does not say.
        for available in [|| Some(ROOM_TO_LEAVE), || None] {
            assert_eq!(
                three_saves(available),
                [(1.0, in_line), (2.0, in_line), (3.0, in_line)]
            );
        }
    }

    #[test]
    fn the_room_for_the_copy_is_asked_for_once() {
        use std::sync::atomic::{AtomicU64, Ordering};
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let once = || match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 => Some(1 << 40),
            _ => None,
        };
        let places: Vec<Place> = three_saves(once).into_iter().map(|(_, place)| place).collect();
        assert_eq!(places, [Place::Background; 3]);
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }
}
