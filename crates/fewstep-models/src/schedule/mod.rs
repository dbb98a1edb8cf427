//! The arithmetic of noise: schedules, solvers, samplers, and the boundary of a consistency function.
//!
//! All of it is f32 whatever the networks compute in, since a rounded schedule is a wrong schedule. It takes
//! and returns tensors and numbers; it knows no network, and of files only `scheduler_config.json`.

mod betas;
mod config;
mod ddim_sampler;
mod ddim_solver;
mod error;
mod guidance;
mod lcm_config;
mod lcm_sampler;
mod lcm_timesteps;
mod limit;
mod noise;
mod prediction;
mod scalings;
mod timeline;

pub use config::{BetaSchedule, SchedulerConfig, TimestepSpacing};
pub use ddim_sampler::{DdimSampler, DdimTimesteps};
pub use ddim_solver::DdimSolver;
pub use error::ScheduleError;
pub use guidance::{extrapolate, guidance_embedding, guide};
pub use lcm_config::lcm_scheduler_config;
pub use lcm_sampler::{LcmSampler, LcmStep};
pub use lcm_timesteps::{LcmTimesteps, LcmWarning, Steps};
pub use limit::SampleLimit;
pub use noise::{NoiseSchedule, PredictionType};
pub use prediction::Tables;
pub use scalings::{SIGMA_DATA, boundary_scalings, boundary_scalings_at};
pub use timeline::Timeline;
