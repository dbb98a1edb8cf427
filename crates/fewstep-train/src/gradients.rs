//! The gradients of an optimiser step, collected over micro-batches, without the host ever reading a number.

use fewstep_models::params::Weights;
use libtorch_ext::{NoGrad, TorchError, catch, lists, sweep};
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;

/// What is added to a norm before it divides, as torch does.
const CLIP_EPS: f64 = 1e-6;

/// The gradients of one optimiser step, in the order of the weights and laid out as they are: those of one micro-batch
/// in the dtype in which it computed, the sum of several in f32.
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
                self.sum = fresh.into_iter().zip(weights.tensors()).map(laid_out).collect();
            } else {
                for (sum, fresh) in self.sum.iter_mut().zip(fresh) {
                    if fresh.defined() {
                        *sum = sum.to_kind(Kind::Float);
                        let _ = sum.g_add_(&fresh);
                    }
                }
            }
        })?;
        Ok(())
    }

    /// Gradients that were summed elsewhere, in the order of the weights.
    pub(crate) fn of(sum: Vec<Tensor>) -> Self {
        Gradients { sum }
    }

    /// All gradients, in the order of the weights.
    pub fn tensors(&self) -> &[Tensor] {
        &self.sum
    }

    /// Those of these places alone.
    pub(crate) fn at(self, places: &[usize]) -> Self {
        let at = |&place: &usize| Some(self.sum.get(place)?.shallow_clone());
        Gradients {
            sum: places.iter().filter_map(at).collect(),
        }
    }

    /// The same in f32.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn widened(mut self) -> Result<Self, TrainError> {
        let _no_grad = NoGrad::new();
        for gradient in &mut self.sum {
            *gradient = gradient.f_to_kind(Kind::Float).map_err(TorchError::from)?;
        }
        Ok(self)
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn scale(&self, factor: &Tensor) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        Ok(lists::scale(&self.sum, factor)?)
    }

    /// The L2 norm over all gradients, an f32 scalar on their device. But for the CPU they must be in f32.
    ///
    /// # Errors
    /// There are no gradients.
    pub fn norm(&self) -> Result<Tensor, TrainError> {
        let _no_grad = NoGrad::new();
        Ok(match self.sum.first().map(Tensor::device) {
            Some(Device::Cpu) => sweep::norm(&self.sum)?,
            _ => lists::global_norm(&self.sum)?,
        })
    }
}

/// What gradients of the norm `norm` are multiplied with, so that it is no larger than `max_norm`: a scalar like it.
///
/// # Errors
/// What LibTorch refuses.
pub fn clip_factor(norm: &Tensor, max_norm: f64) -> Result<Tensor, TrainError> {
    Ok(catch(|| {
        let _no_grad = NoGrad::new();
        ((norm + CLIP_EPS).reciprocal() * max_norm).clamp_max(1.0)
    })?)
}

/// A gradient laid out as its weight; zeros where the loss does not depend on the weight.
fn laid_out((gradient, weight): (Tensor, &Tensor)) -> Tensor {
    if gradient.defined() {
        gradient.contiguous()
    } else {
        weight.zeros_like()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_models::params::{Init, Layout};

    #[test]
    fn several_micro_batches_are_summed_in_f32() {
        let (_, layout) = Layout::build(|root| ["a", "b"].map(|name| root.param(name, &[2], Init::Ones)));
        let weights = Weights::random_as(&layout, Kind::BFloat16, Device::Cpu).trainable();
        let mut gradients = Gradients::default();
        let mut add = |slope: f64| {
            let loss = (&weights.tensors()[0] * slope).sum(Kind::Float);
            gradients.add(&loss, &weights).unwrap();
            let first = &gradients.tensors()[0];
            // The loss does not depend on the other.
            assert_eq!(gradients.tensors()[1].abs().max().double_value(&[]), 0.0);
            (first.kind(), first.double_value(&[0]))
        };
        assert_eq!(add(1.0), (Kind::BFloat16, 1.0));
        // bf16 has no number between 1 and 1 + 2^-7.
        assert_eq!(add(0.0009765625), (Kind::Float, 1.0009765625));
        assert_eq!(gradients.norm().unwrap().kind(), Kind::Float);
        let widened = gradients.widened().unwrap();
        assert!(widened.tensors().iter().all(|t| t.kind() == Kind::Float));
    }
}
