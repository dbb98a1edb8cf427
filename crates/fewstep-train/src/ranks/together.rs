//! What the ranks of a run do together around a step: they begin alike, sum gradients and numbers, and hand rank 0 what a
//! checkpoint needs of them.

use fewstep_data::{Cause, Cursor, Drops};
use fewstep_models::params::Weights;
use libtorch_ext::{TorchError, catch};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::{Ranks, RanksError, Reducer};
use crate::checkpoint::State;
use crate::config::Config;
use crate::error::TrainError;
use crate::observer::{Ending, Report};
use crate::signals::Stop;
use crate::skipped::Skipped;
use crate::student::Unets;

/// Options that ranks may be given differently: where they lie and compute, and how they read.
const FREE: &[&str] = &[
    "output_dir",
    "device",
    "pretrained_teacher_model",
    "pretrained_vae_model_name_or_path",
    "dataloader_num_workers",
    "cache_dir",
    "cache_max_gb",
    "rank_timeout",
];

/// The ranks of a run whose networks are loaded.
#[derive(Debug)]
pub(crate) struct Team {
    pub(crate) ranks: Ranks,
    pub(crate) reducer: Reducer,
    /// Somebody's wish to stop.
    stop: Stop,
    /// Whether any rank was asked to stop, as all know since the same step.
    pub(crate) is_to_stop: bool,
    /// Whether any rank was asked for a checkpoint, likewise.
    pub(crate) is_to_save: bool,
}

/// How rank 0 enters the run's folder; the others never look into it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Entered {
    /// The run that is asked for is done.
    Finished {
        /// Steps and samples.
        done: (u64, u64),
        /// Updates that were skipped.
        skipped: Skipped,
        /// What was left out of the data.
        dropped: Drops,
    },
    /// It begins.
    Start,
    /// It goes on from here.
    GoOn(Box<State>),
}

impl Entered {
    /// The report of a run that was done before.
    pub(crate) fn finished(report: &Report) -> Self {
        Entered::Finished {
            done: (report.steps, report.samples),
            skipped: report.skipped.clone(),
            dropped: report.dropped.clone(),
        }
    }

    /// As a report, where the run is done.
    pub(crate) fn report(self) -> Result<Report, Option<Box<State>>> {
        match self {
            Entered::Finished {
                done,
                skipped,
                dropped,
            } => Ok(Report {
                ending: Ending::FinishedBefore,
                steps: done.0,
                samples: done.1,
                skipped,
                dropped,
            }),
            Entered::Start => Err(None),
            Entered::GoOn(state) => Err(Some(state)),
        }
    }
}

impl Ranks {
    /// Refuses ranks with other options or another version than rank 0's, and connects their devices.
    ///
    /// # Errors
    /// They differ, or cannot reach one another.
    pub(crate) fn begin(&mut self, config: &Config, device: Device) -> Result<(), RanksError> {
        let kind = match device {
            Device::Cuda(_) => "CUDA",
            _ => "the CPU",
        };
        let mut words = vec![
            (
                "the version of fewstep".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("the device".to_owned(), kind.to_owned()),
        ];
        let options = config.shown().words().into_iter();
        words.extend(options.filter(|(name, _)| !FREE.contains(&name.as_str())));
        self.agree(&words)?;
        self.connect(device)
    }

    /// Tells all how rank 0, which alone gives `entered`, enters the run's folder.
    ///
    /// # Errors
    /// Rank 0 is gone.
    pub(crate) fn enter(&self, entered: Option<&Entered>) -> Result<Entered, TrainError> {
        self.tell("entered", entered)
    }

    /// Tells all under `name` what rank 0 knows, which alone gives it.
    ///
    /// # Errors
    /// Rank 0 is gone.
    pub(crate) fn tell<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        known: Option<&T>,
    ) -> Result<T, TrainError> {
        if let Some(known) = known {
            self.set(name, &serde_json::to_vec(known).unwrap_or_default())?;
        }
        let value = self.get(name)?;
        let unreadable =
            |error: serde_json::Error| TorchError::new(&format!("rank 0 is not understood: {error}"));
        Ok(serde_json::from_slice(&value).map_err(unreadable)?)
    }

    /// Waits until rank 0 has come here, too.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn wait_for_first(&self) -> Result<(), RanksError> {
        match self.seat.rank {
            0 => self.set("kept", b""),
            _ => self.get("kept").map(|_| ()),
        }
    }

    /// The words of the rank whose data gave out, which it is about to tell.
    pub(crate) fn whose_data_gave_out(&self) -> RanksError {
        self.sentinel.culprit(&RanksError::DataGaveOut.to_string())
    }

    /// Collects the places of all ranks in the data, rank 0's first. Other ranks than that get none.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn places(&mut self, own: &Cursor) -> Result<Vec<Cursor>, TrainError> {
        let all = self.collect(serde_json::to_vec(own).unwrap_or_default())?;
        let unreadable =
            |error: serde_json::Error| TorchError::new(&format!("a rank is not understood: {error}"));
        let places: Result<Vec<Cursor>, _> = all.iter().map(|bytes| serde_json::from_slice(bytes)).collect();
        Ok(places.map_err(unreadable)?)
    }
}

/// The numbers of an update that all ranks know alike.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The loss' mean, how many ranks were asked to stop, how many have no more data, how many were asked
    /// for a checkpoint, and what was dropped, by cause.
    sums: Tensor,
}

/// What ranks know of an update from one another.
#[derive(Debug)]
pub(crate) struct Known {
    /// Whether any was asked to stop.
    pub(crate) stop: bool,
    /// Whether the data of any have given out.
    pub(crate) gave_out: bool,
    /// Whether any was asked for a checkpoint.
    pub(crate) save: bool,
    /// What all have dropped, by cause.
    pub(crate) dropped: Map<String, Value>,
}

impl Team {
    /// The team that trains `unets`.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn new(ranks: Ranks, unets: &Unets, stop: &Stop) -> Result<Self, TrainError> {
        Ok(Team {
            reducer: Reducer::new(unets.student.compute())?,
            ranks,
            stop: stop.clone(),
            is_to_stop: false,
            is_to_save: false,
        })
    }

    /// Adds the gradients of `loss`; after the last micro-batch of an update they go to the other ranks meanwhile.
    ///
    /// # Errors
    /// What LibTorch refuses, or a rank that is gone.
    pub(crate) fn add(&mut self, loss: &Tensor, weights: &Weights, is_last: bool) -> Result<(), TrainError> {
        let group = match is_last {
            true => Some(self.ranks.group()?),
            false => None,
        };
        self.reducer.add(loss, weights, group)
    }

    /// Does this rank's part of an update for which it has no data.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn add_nothing(&mut self) -> Result<(), TrainError> {
        self.reducer.send_rest(self.ranks.group()?)
    }

    /// Sums what is under way, and with it the loss, the wish to stop, whether this rank's data have given out and the
    /// counts of what was dropped. Returns the mean loss, an f32 scalar.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn reduce(
        &mut self,
        loss: &Tensor,
        gave_out: bool,
        drops: &Drops,
    ) -> Result<(Tensor, Numbers), TrainError> {
        let counts = Cause::ALL.map(|cause| drops.count(cause) as f64);
        let numbers = catch(|| {
            let mut numbers = [self.stop.is_asked(), gave_out, self.stop.take_checkpoint_wish()]
                .map(|is| f64::from(u8::from(is)))
                .to_vec();
            numbers.extend(counts);
            let rest = Tensor::from_slice(&numbers).to_device(loss.device());
            let ranks = f64::from(self.ranks.seat.ranks);
            let share = loss.detach().to_kind(Kind::Double).view([1]) / ranks;
            Tensor::cat(&[share, rest], 0)
        })?;
        let work = self.ranks.group()?.all_reduce(&numbers)?;
        for work in self.reducer.take_works().iter().chain([&work]) {
            self.ranks.wait(work)?;
        }
        let loss = catch(|| numbers.get(0).to_kind(Kind::Float))?;
        Ok((loss, Numbers { sums: numbers }))
    }
}

impl Numbers {
    /// What they say. Waits for the device.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn read(&self) -> Result<Known, TrainError> {
        let numbers = Vec::<f64>::try_from(&self.sums).map_err(TorchError::from)?;
        let any = |place: usize| numbers.get(place).is_some_and(|ranks| *ranks > 0.0);
        let (stop, gave_out, save) = (any(1), any(2), any(3));
        let counts = Cause::ALL.into_iter().zip(numbers.iter().skip(4));
        let dropped = counts
            .filter(|(_, count)| **count > 0.0)
            .filter_map(|(cause, count)| match serde_json::to_value(cause) {
                Ok(Value::String(name)) => Some((name, json!(*count as u64))),
                _ => None,
            })
            .collect();
        Ok(Known {
            stop,
            gave_out,
            save,
            dropped,
        })
    }
}
