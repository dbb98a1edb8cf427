//! Latent consistency distillation: the step, and the training around it.
//!
//! [`Config`] says what a run is, [`run`] does it, an [`Observer`] watches, and a [`Stop`] ends it early.
//! [`step`] is the algorithm; [`trainer`] is the loop around it. [`replay`] does one step from given tensors.
//! It prints nothing.

#![warn(missing_docs)]

pub mod config;
mod error;
mod identity;

pub mod loss;
pub mod networks;
pub mod step;

pub mod draw;

pub mod conditioning;
pub mod device;
mod memory;
pub mod student;

mod cache;
mod data;
pub mod fill;
mod micro_batch;

mod descent;
pub mod ema;
pub mod gradients;
pub mod lr;
pub mod optimizer;
pub mod precision;
mod share;
pub mod update;

mod not_finite;
mod replay_file;
mod skipped;
mod skipping;

mod sealed;
mod sums;
mod whole_folder;

mod beginning;
pub mod checkpoint;
mod finished;
mod lock;
mod metrics;
mod model_card;
mod output;
mod run_folder;
mod saved;
mod saver;
mod saving;
mod snapshot;

pub mod picture;
mod trackers;
mod validating;
mod validation;

mod observer;
pub mod ranks;
mod signals;
mod start;
pub mod trainer;

mod profile;
mod profile_table;
mod profile_trace;

mod rehearsal;

mod out_of_memory;
pub mod plan;
pub mod replay;

#[cfg(test)]
mod tiny;

pub use config::{Config, ConfigError};
pub use data::data_config;
pub use descent::Stride;
pub use error::{Left, TrainError};
pub use metrics::StepMetrics;
pub use not_finite::{NotFinite, Suspect};
pub use observer::{Ending, Event, Observer, Report, Skip, Start};
pub use out_of_memory::{OutOfMemory, TooMuch};
pub use plan::{Checkpointed, MemoryPlan, plan};
pub use profile::Profiled;
pub use profile_table::{NameRow, PhaseRow, ProfileTable};
pub use ranks::{Ranks, RanksError, Seat};
pub use signals::Stop;
pub use skipped::Skipped;
pub use sums::Damage;
pub use trainer::{run, run_as};
