//! AdamW over a network's f32 weights, and the gradients that it is given: collected over micro-batches and
//! clipped by their global norm, without the host ever reading a number.
//!
//! It knows neither losses nor schedules: whoever calls it says the learning rate.

use std::path::Path;

use fewstep_models::params::Weights;
use fewstep_models::weights::read_tensors;
use libtorch_ext::lists::{self, AdamW as Hyper};
use libtorch_ext::{NoGrad, TorchError, catch};
use tch::{Kind, Tensor};

use crate::config::OptimizerConfig;
use crate::error::TrainError;

/// What is added to a norm before it divides, as torch does.
const CLIP_EPS: f64 = 1e-6;

/// The gradients of one optimiser step, in f32 and in the order of the weights.
#[derive(Debug, Default)]
pub struct Gradients {
    sum: Vec<Tensor>,
}

impl Gradients {
    /// Adds the gradients of `loss` with respect to `weights`, whose leaves they are taken at.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn add(&mut self, loss: &Tensor, weights: &Weights) -> Result<(), TrainError> {
        let fresh =
            Tensor::f_run_backward(&[loss], weights.tensors(), false, false).map_err(TorchError::from)?;
        let _no_grad = NoGrad::new();
        catch(|| {
            if self.sum.is_empty() {
                self.sum = fresh.into_iter().zip(weights.tensors()).map(as_f32).collect();
            } else {
                for (sum, fresh) in self.sum.iter_mut().zip(&fresh) {
                    if fresh.defined() {
                        let _ = sum.g_add_(fresh);
                    }
                }
            }
        })?;
        Ok(())
    }

    /// All gradients, in the order of the weights.
    pub fn tensors(&self) -> &[Tensor] {
        &self.sum
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn scale(&self, factor: &Tensor) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        Ok(lists::scale(&self.sum, factor)?)
    }

    /// The L2 norm over all gradients, an f32 scalar on their device.
    ///
    /// # Errors
    /// There are none.
    pub fn norm(&self) -> Result<Tensor, TrainError> {
        let _no_grad = NoGrad::new();
        Ok(lists::global_norm(&self.sum)?)
    }

    /// Scales the gradients, whose norm is `norm`, down to `max_norm` where it is larger.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn clip(&self, norm: &Tensor, max_norm: f64) -> Result<(), TrainError> {
        let factor = catch(|| {
            let _no_grad = NoGrad::new();
            ((norm + CLIP_EPS).reciprocal() * max_norm).clamp_max(1.0)
        })?;
        self.scale(&factor)
    }
}

/// A gradient in f32 and laid out as its weight; zeros where the loss does not depend on the weight.
fn as_f32((gradient, weight): (Tensor, &Tensor)) -> Tensor {
    if gradient.defined() {
        gradient.to_kind(Kind::Float).contiguous()
    } else {
        Tensor::zeros_like(weight).to_kind(Kind::Float)
    }
}

/// AdamW (Loshchilov and Hutter, 2019) with its state.
#[derive(Debug)]
pub struct AdamW {
    params: Vec<Tensor>,
    names: Vec<String>,
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    steps: Vec<Tensor>,
    hyper: Hyper,
}

impl AdamW {
    /// A fresh state for all of `weights`, which are updated in place. Decay applies to all of them, biases
    /// and norms too, as in the reference.
    pub fn new(weights: &Weights, config: &OptimizerConfig) -> Self {
        let zeros = |t: &Tensor| t.detach().zeros_like();
        let params: Vec<Tensor> = weights.tensors().iter().map(Tensor::detach).collect();
        AdamW {
            names: weights.named().map(|(name, _)| name.to_owned()).collect(),
            exp_avg: params.iter().map(zeros).collect(),
            exp_avg_sq: params.iter().map(zeros).collect(),
            steps: params
                .iter()
                .map(|t| Tensor::zeros([], (Kind::Float, t.device())))
                .collect(),
            params,
            hyper: Hyper {
                lr: 0.0,
                beta1: config.adam_beta1,
                beta2: config.adam_beta2,
                weight_decay: config.adam_weight_decay,
                eps: config.adam_epsilon,
            },
        }
    }

    /// One update at learning rate `lr`, except where the scalar `skip` is 1: then nothing changes, and nobody waits
    /// to know.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, skip: &Tensor) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        let hyper = Hyper { lr, ..self.hyper };
        Ok(lists::fused_adamw(
            &self.params,
            gradients.tensors(),
            &self.exp_avg,
            &self.exp_avg_sq,
            &self.steps,
            hyper,
            Some(skip),
        )?)
    }

    /// The state by name: `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME`. The tensors are shared.
    pub fn named_state(&self) -> Vec<(String, Tensor)> {
        let tensors = self.state().map(Tensor::shallow_clone);
        self.state_names().into_iter().zip(tensors).collect()
    }

    /// Takes over a state from a file that holds [`AdamW::named_state`].
    ///
    /// # Errors
    /// A file that cannot be read, or that is not the state of these weights.
    pub fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut stored = read_tensors(path)?;
        for (name, state) in self.state_names().iter().zip(self.state()) {
            let Some(tensor) = stored.remove(name) else {
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
            state.shallow_clone().f_copy_(&tensor).map_err(TorchError::from)?;
        }
        match stored.keys().next() {
            None => Ok(()),
            Some(name) => Err(TrainError::bad_checkpoint(
                path,
                format!("holds `{name}`, which the student does not have"),
            )),
        }
    }

    fn state(&self) -> impl Iterator<Item = &Tensor> {
        self.exp_avg.iter().chain(&self.exp_avg_sq).chain(&self.steps)
    }

    fn state_names(&self) -> Vec<String> {
        ["exp_avg", "exp_avg_sq", "step"]
            .iter()
            .flat_map(|part| self.names.iter().map(move |name| format!("{part}.{name}")))
            .collect()
    }
}
