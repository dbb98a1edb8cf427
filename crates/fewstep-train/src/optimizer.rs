//! AdamW over a network's f32 weights: its state, and how that is stored. What an update does is in `descent.rs`.
//!
//! It knows neither losses nor schedules: whoever asks for an update says the learning rate.

use std::path::Path;
use std::sync::Arc;

use fewstep_models::params::{Layout, Weights};
use fewstep_models::weights::read_tensors;
use libtorch_ext::blockwise::{self, Maps};
use libtorch_ext::lists::AdamW as Hyper;
use libtorch_ext::moments::{Form, Moments};
use libtorch_ext::{TorchError, catch};
use tch::{Device, Kind, Tensor};

use crate::config::OptimizerConfig;
use crate::error::TrainError;
use crate::share::{self, Kept, Share};

/// Parameters of fewer numbers keep f32 moments in any case, as in bitsandbytes.
const LEAST_IN_BLOCKS: u64 = 4096;

/// How the moments of a parameter of so many numbers are kept.
fn form(config: &OptimizerConfig, numbers: u64) -> Form {
    match config.use_8bit_adam && numbers >= LEAST_IN_BLOCKS {
        true => Form::Blocks,
        false => Form::Full,
    }
}

/// The bytes of the moments of a share of a network's parameters.
pub(crate) fn moments_bytes(layout: &Layout, share: &Share, config: &OptimizerConfig) -> u64 {
    let bytes = |numbers: u64| form(config, numbers).bytes(numbers);
    numbers(layout, share).map(bytes).sum()
}

/// The most that an update of a share takes for its time beside the gradients, in bytes, where there is no sweep.
pub(crate) fn working_bytes(layout: &Layout, share: &Share, config: &OptimizerConfig) -> u64 {
    let in_blocks = numbers(layout, share).filter(|&numbers| form(config, numbers) == Form::Blocks);
    in_blocks.map(blockwise::working_bytes).max().unwrap_or(0)
}

/// The numbers of each parameter of a share.
fn numbers(layout: &Layout, share: &Share) -> impl Iterator<Item = u64> {
    let sizes = share::sizes(layout);
    share
        .places()
        .map(move |place| sizes.get(place).copied().unwrap_or(0))
}

/// AdamW (Loshchilov and Hutter, 2019) with its state, for a share of a network's parameters: all of them, unless ranks
/// divide them.
#[derive(Debug)]
pub struct AdamW {
    layout: Arc<Layout>,
    share: Share,
    /// Which parameters it has: the places of what follows.
    pub(crate) places: Vec<usize>,
    pub(crate) params: Vec<Tensor>,
    pub(crate) moments: Vec<Moments>,
    pub(crate) steps: Vec<Tensor>,
    config: OptimizerConfig,
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
        AdamW::of_share(weights, Share::whole(weights.tensors().len()), config)
    }

    /// The same for a share of `weights`.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn of_share(
        weights: &Weights,
        share: Share,
        config: &OptimizerConfig,
    ) -> Result<Self, TrainError> {
        let maps = Maps::new(weights.device())?;
        let places: Vec<usize> = share.places().collect();
        let params: Vec<Tensor> = (places.iter())
            .map(|&place| weights.tensors()[place].detach())
            .collect();
        let zeros = |t: &Tensor| Moments::zeros(t, form(config, t.numel() as u64));
        let count = |t: &Tensor| Tensor::zeros([], (Kind::Float, t.device()));
        Ok(catch(|| AdamW {
            layout: weights.layout().clone(),
            share,
            places,
            moments: params.iter().map(zeros).collect(),
            steps: params.iter().map(count).collect(),
            params,
            config: config.clone(),
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

    /// Where its state lies.
    pub(crate) fn device(&self) -> Device {
        self.maps.device()
    }

    /// The share of the parameters that it has.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// The state of the share by name: `step.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME`. Where these two are kept in 8
    /// bits they are codes, and `exp_avg_absmax.NAME` and `exp_avg_sq_absmax.NAME` the scales of their blocks. The
    /// tensors are shared.
    pub fn named_state(&self) -> Vec<(String, Tensor)> {
        let all = self.whole_state().into_iter();
        all.filter_map(|kept| Some((kept.name, kept.tensor?))).collect()
    }

    /// The state of all parameters, of which this is a share.
    pub(crate) fn whole_state(&self) -> Vec<Kept> {
        let mut own = self.places.iter().zip(self.moments.iter().zip(&self.steps));
        let mut all = Vec::new();
        for (place, (spec, numbers)) in self
            .layout
            .specs()
            .iter()
            .zip(share::sizes(&self.layout))
            .enumerate()
        {
            let held = match self.share.has(place) {
                true => own.next().map(|(_, held)| held),
                false => None,
            };
            let mut described = form(&self.config, numbers).described(&spec.shape);
            described.push(("step", Vec::new(), Kind::Float));
            let tensors = held.map(|(moments, step)| {
                let moments = moments.named().into_iter().map(|(_, tensor)| tensor);
                moments
                    .chain([step])
                    .map(Tensor::shallow_clone)
                    .collect::<Vec<_>>()
            });
            for (part, (what, shape, kind)) in described.into_iter().enumerate() {
                all.push(Kept {
                    name: format!("{what}.{}", spec.name),
                    shape,
                    kind,
                    owner: self.share.owner(place),
                    tensor: tensors
                        .as_ref()
                        .and_then(|tensors| Some(tensors.get(part)?.shallow_clone())),
                });
            }
        }
        all
    }

    /// Takes over its share of a state from a file that holds that of all parameters, and returns all of it: by
    /// parameter, in the order of [`AdamW::named_state`].
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the state of these weights.
    pub fn load(&mut self, path: &Path) -> Result<Vec<Tensor>, TrainError> {
        let mut stored = read_tensors(path)?;
        let mut all = Vec::new();
        for kept in self.whole_state() {
            let name = &kept.name;
            let Some(tensor) = stored.remove(name) else {
                return Err(TrainError::bad_checkpoint(
                    path,
                    format!("has no tensor `{name}`"),
                ));
            };
            if tensor.size() != kept.shape || tensor.kind() != kept.kind {
                let problem = format!(
                    "holds `{name}` as {:?} {:?}, but the student wants {:?} {:?}",
                    tensor.kind(),
                    tensor.size(),
                    kept.kind,
                    kept.shape
                );
                return Err(TrainError::bad_checkpoint(path, problem));
            }
            if let Some(mut own) = kept.tensor {
                own.f_copy_(&tensor).map_err(TorchError::from)?;
            }
            all.push(tensor);
        }
        match stored.keys().next() {
            None => Ok(all),
            Some(name) => Err(TrainError::bad_checkpoint(
                path,
                format!("holds `{name}`, which the student does not have"),
            )),
        }
    }
}
