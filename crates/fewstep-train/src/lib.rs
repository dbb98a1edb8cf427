//! Latent consistency distillation: the step, and the training around it.
//!
//! [`Config`] says what a run is, [`run`] does it, an [`Observer`] watches, and a [`Stop`] ends it early.
//! [`step`] is the algorithm; [`trainer`] is the loop around it. [`replay`] does one step from given tensors.
//! The crate paints no pictures and prints nothing.

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
pub mod student;

mod data;
mod micro_batch;

pub mod ema;
pub mod lr;
pub mod optimizer;
pub mod precision;
pub mod update;

pub mod checkpoint;
mod metrics;
mod model_card;
mod output;
mod run_folder;
mod saved;

mod observer;
mod signals;
mod start;
pub mod trainer;

pub mod plan;
pub mod replay;

pub use config::{Config, ConfigError};
pub use data::data_config;
pub use error::TrainError;
pub use metrics::StepMetrics;
pub use observer::{Ending, Event, Observer, Report, Start};
pub use plan::{MemoryPlan, plan};
pub use signals::Stop;
pub use trainer::run;
