//! In which dtype the networks compute, and what that takes: a copy of the trained weights in it, and under
//! fp16 a scale that keeps small gradients from vanishing.
//!
//! There is no autocast: frozen weights are stored in the compute dtype, trained ones are f32 masters with a
//! copy that is written once after each update.

use fewstep_models::params::Weights;
use libtorch_ext::NoGrad;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::config::MixedPrecision;
use crate::error::TrainError;
use crate::share::{Kept, Share};

impl MixedPrecision {
    /// The dtype in which the networks compute.
    pub fn kind(self) -> Kind {
        match self {
            MixedPrecision::No => Kind::Float,
            MixedPrecision::Fp16 => Kind::Half,
            MixedPrecision::Bf16 => Kind::BFloat16,
        }
    }
}

/// f32 weights that change, and the same in the dtype in which the network computes.
#[derive(Debug)]
pub struct Mastered {
    master: Weights,
    compute: Weights,
    /// Whether these are tensors of their own.
    copied: bool,
}

impl Mastered {
    /// Weights that a network only runs with.
    pub fn frozen(master: Weights, kind: Kind) -> Self {
        Mastered::of(master.to_kind(kind), master)
    }

    /// Weights of which gradients are taken: those of [`Mastered::compute`] are leaves.
    pub fn trainable(master: Weights, kind: Kind) -> Self {
        Mastered::of(master.to_kind(kind).trainable(), master)
    }

    fn of(compute: Weights, master: Weights) -> Self {
        Mastered {
            copied: compute.kind() != master.kind(),
            master,
            compute,
        }
    }

    /// Lets go the masters of parameters that other ranks update: what is left of them is the compute copy, which stands
    /// in their places.
    pub(crate) fn keep(&mut self, share: &Share) {
        if self.copied {
            let copies = self.compute.tensors();
            let tensors = self.master.tensors().iter().zip(copies).enumerate();
            let kept = tensors.map(|(place, (master, copy))| match share.has(place) {
                true => master.shallow_clone(),
                false => copy.detach(),
            });
            self.master = Weights::new(self.master.layout().clone(), kept.collect());
        }
    }

    /// The masters, whoever has them.
    pub(crate) fn kept(&self, share: &Share) -> Vec<Kept> {
        let named = self.master.named().enumerate();
        named
            .map(|(place, (name, tensor))| Kept {
                name: name.to_owned(),
                shape: tensor.size(),
                kind: Kind::Float,
                owner: share.owner(place).filter(|_| self.copied),
                tensor: (!self.copied || share.has(place)).then(|| tensor.shallow_clone()),
            })
            .collect()
    }

    /// The f32 weights. In an f32 run they share memory with [`Mastered::compute`]; in others they are that copy where
    /// another rank has them.
    pub fn master(&self) -> &Weights {
        &self.master
    }

    /// The weights that the network runs with.
    pub fn compute(&self) -> &Weights {
        &self.compute
    }

    /// The compute copy of the parameter at place `i`; none in an f32 run.
    pub(crate) fn copy(&self, i: usize) -> Option<&Tensor> {
        self.compute.tensors().get(i).filter(|_| self.copied)
    }

    /// Writes the masters, which have changed, into the compute copy.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn refresh(&self) -> Result<(), TrainError> {
        if !self.copied {
            return Ok(());
        }
        let _no_grad = NoGrad::new();
        let both = self.compute.tensors().iter().zip(self.master.tensors());
        for (copy, master) in both.filter(|(copy, master)| copy.kind() != master.kind()) {
            copy.shallow_clone()
                .f_copy_(master)
                .map_err(libtorch_ext::TorchError::from)?;
        }
        Ok(())
    }
}

/// The scale at which fp16 starts.
const FIRST_SCALE: f64 = 65536.0;
/// Updates without overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;
/// Below this scale fp16 has nothing left to give: the gradients themselves are infinite.
const LEAST_SCALE: f64 = 1.0 / 65536.0;

/// The factor that lifts fp16 gradients above the smallest number that fp16 has. It halves when they
/// overflow (that update is skipped) and doubles after a long time without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossScaler {
    scale: f64,
    since_overflow: u32,
}

impl Default for LossScaler {
    fn default() -> Self {
        LossScaler {
            scale: FIRST_SCALE,
            since_overflow: 0,
        }
    }
}

impl LossScaler {
    /// The factor of the loss now.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The loss whose gradients are taken.
    pub fn scaled(&self, loss: &Tensor) -> Tensor {
        loss * self.scale
    }

    /// Takes note of an update that was done.
    pub fn applied(&mut self) {
        self.since_overflow += 1;
        if self.since_overflow == GROWTH_INTERVAL {
            self.scale *= 2.0;
            self.since_overflow = 0;
        }
    }

    /// Takes note of an update that was skipped because its gradients overflowed.
    ///
    /// # Errors
    /// The scale has become so small that it cannot be the scale's fault.
    pub fn overflowed(&mut self) -> Result<(), TrainError> {
        self.scale *= 0.5;
        self.since_overflow = 0;
        if self.scale < LEAST_SCALE {
            return Err(TrainError::ScaleExhausted { scale: self.scale });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_models::params::{Init, Layout};
    use tch::Device;

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_a_long_time() {
        let mut scaler = LossScaler::default();
        scaler.overflowed().unwrap();
        assert_eq!(scaler.scale(), 32768.0);
        (0..1999).for_each(|_| scaler.applied());
        assert_eq!(scaler.scale(), 32768.0);
        scaler.applied();
        assert_eq!(scaler.scale(), 65536.0);
        (0..1500).for_each(|_| scaler.applied());
        scaler.overflowed().unwrap();
        (0..1999).for_each(|_| scaler.applied());
        assert_eq!(scaler.scale(), 32768.0);
        let end = (0..64).find_map(|_| scaler.overflowed().err());
        assert!(matches!(end, Some(TrainError::ScaleExhausted { .. })));
    }

    #[test]
    fn the_compute_copy_follows_its_master() {
        let (slot, layout) = Layout::build(|root| root.param("weight", &[2], Init::Ones));
        for kind in [Kind::Float, Kind::BFloat16] {
            let weights = Mastered::trainable(Weights::random(&layout, Device::Cpu), kind);
            let _ = weights.master()[slot].detach().fill_(3.0);
            weights.refresh().unwrap();
            assert_eq!(weights.compute()[slot].kind(), kind);
            assert_eq!(weights.compute()[slot].double_value(&[1]), 3.0);
            assert!(weights.compute()[slot].requires_grad());
            assert!(!weights.master()[slot].requires_grad());
        }
    }
}
