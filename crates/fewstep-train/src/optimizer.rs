//! AdamW over a network's f32 weights: its state, and how that is stored. What an update does is in `descent.rs`.
//!
//! It knows neither losses nor schedules: whoever asks for an update says the learning rate.

use std::path::Path;

use fewstep_models::params::{Layout, Weights};
use fewstep_models::weights::read_tensors;
use libtorch_ext::blockwise::{self, Maps};
use libtorch_ext::lists::AdamW as Hyper;
use libtorch_ext::moments::{Form, Moments};
use libtorch_ext::{TorchError, catch};
use tch::{Kind, Tensor};

use crate::config::OptimizerConfig;
use crate::error::TrainError;

/// Parameters of fewer numbers keep f32 moments in any case, as in bitsandbytes.
const LEAST_IN_BLOCKS: u64 = 4096;

/// How the moments of a parameter of so many numbers are kept.
fn form(config: &OptimizerConfig, numbers: u64) -> Form {
    match config.use_8bit_adam && numbers >= LEAST_IN_BLOCKS {
        true => Form::Blocks,
        false => Form::Full,
    }
}

/// The bytes of all moments of a network's parameters.
pub(crate) fn moments_bytes(layout: &Layout, config: &OptimizerConfig) -> u64 {
    numbers(layout)
        .map(|numbers| form(config, numbers).bytes(numbers))
        .sum()
}

/// The most that an update takes for its time beside the gradients, in bytes, where there is no sweep.
pub(crate) fn working_bytes(layout: &Layout, config: &OptimizerConfig) -> u64 {
    let in_blocks = numbers(layout).filter(|&numbers| form(config, numbers) == Form::Blocks);
    in_blocks.map(blockwise::working_bytes).max().unwrap_or(0)
}

/// The numbers of each parameter.
fn numbers(layout: &Layout) -> impl Iterator<Item = u64> {
    let of = |shape: &[i64]| {
        shape
            .iter()
            .fold(1, |n: u64, &size| n.saturating_mul(size.unsigned_abs()))
    };
    layout.specs().iter().map(move |spec| of(&spec.shape))
}

/// AdamW (Loshchilov and Hutter, 2019) with its state.
#[derive(Debug)]
pub struct AdamW {
    pub(crate) params: Vec<Tensor>,
    names: Vec<String>,
    pub(crate) moments: Vec<Moments>,
    pub(crate) steps: Vec<Tensor>,
    pub(crate) hyper: Hyper,
    /// What codes of 8 bits mean, on the parameters' device.
    pub(crate) maps: Maps,
}

impl AdamW {
    /// A fresh state for all of `weights`, which are updated in place. Decay applies to all of them, biases
    /// and norms too, as in the reference.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(weights: &Weights, config: &OptimizerConfig) -> Result<Self, TrainError> {
        let maps = Maps::new(weights.device())?;
        let params: Vec<Tensor> = weights.tensors().iter().map(Tensor::detach).collect();
        let zeros = |t: &Tensor| Moments::zeros(t, form(config, t.numel() as u64));
        let count = |t: &Tensor| Tensor::zeros([], (Kind::Float, t.device()));
        Ok(catch(|| AdamW {
            names: weights.named().map(|(name, _)| name.to_owned()).collect(),
            moments: params.iter().map(zeros).collect(),
            steps: params.iter().map(count).collect(),
            params,
            hyper: Hyper {
                lr: 0.0,
                beta1: config.adam_beta1,
                beta2: config.adam_beta2,
                weight_decay: config.adam_weight_decay,
                eps: config.adam_epsilon,
            },
            maps,
        })?)
    }

    /// The state by name: `step.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME`. Where these two are kept in 8 bits they are
    /// codes, and `exp_avg_absmax.NAME` and `exp_avg_sq_absmax.NAME` the scales of their blocks. The tensors are shared.
    pub fn named_state(&self) -> Vec<(String, Tensor)> {
        let parts = self.names.iter().zip(&self.moments).zip(&self.steps);
        parts
            .flat_map(|((name, moments), step)| {
                let mut tensors = moments.named();
                tensors.push(("step", step));
                tensors
                    .into_iter()
                    .map(move |(part, tensor)| (format!("{part}.{name}"), tensor.shallow_clone()))
            })
            .collect()
    }

    /// Takes over a state from a file that holds [`AdamW::named_state`].
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the state of these weights.
    pub fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut stored = read_tensors(path)?;
        for (name, mut state) in self.named_state() {
            let Some(tensor) = stored.remove(&name) else {
                return Err(TrainError::bad_checkpoint(
                    path,
                    format!("has no tensor `{name}`"),
                ));
            };
            if tensor.size() != state.size() || tensor.kind() != state.kind() {
                let problem = format!(
                    "holds `{name}` as {:?} {:?}, but the student wants {:?} {:?}",
                    tensor.kind(),
                    tensor.size(),
                    state.kind(),
                    state.size()
                );
                return Err(TrainError::bad_checkpoint(path, problem));
            }
            state.f_copy_(&tensor).map_err(TorchError::from)?;
        }
        match stored.keys().next() {
            None => Ok(()),
            Some(name) => Err(TrainError::bad_checkpoint(
                path,
                format!("holds `{name}`, which the student does not have"),
            )),
        }
    }
}
