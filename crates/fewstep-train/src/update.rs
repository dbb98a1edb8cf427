//! From the gradients of a step to changed weights: whether and how far, with the loss scale, clipping and the learning
//! rate.

use libtorch_ext::catch;
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::descent::Stride;
use crate::ema::Average;
use crate::error::TrainError;
use crate::gradients::{Gradients, clip_factor};
use crate::lr::LearningRate;
use crate::optimizer::AdamW;
use crate::precision::{LossScaler, Mastered};
use crate::share::Share;

/// What became of an update.
#[derive(Debug)]
pub enum Update {
    /// The device was told to change the weights, except if loss or gradient are not finite: then nothing changes.
    Launched {
        /// The gradient's norm before clipping, an f32 scalar on the device.
        grad_norm: Tensor,
        /// 1 where nothing changes, else 0: an f32 scalar on the device.
        skip: Tensor,
        /// The learning rate.
        lr: f64,
    },
    /// fp16 gradients overflowed though the loss is finite; nothing changed but the scale.
    Overflow {
        /// The loss scale from now on.
        scale: f64,
    },
}

/// The optimiser with all that it depends on.
#[derive(Debug)]
pub struct Updater {
    /// AdamW and its state.
    pub optimizer: AdamW,
    /// The loss scale, in an fp16 run.
    pub scaler: Option<LossScaler>,
    learning_rate: LearningRate,
    max_grad_norm: f64,
}

impl Updater {
    /// A fresh optimiser for the student, or for this rank's share of it.
    pub fn new(
        student: &Mastered,
        config: &Config,
        total_steps: u64,
        scaler: Option<LossScaler>,
    ) -> Result<Self, TrainError> {
        Ok(Updater {
            optimizer: AdamW::of_share(
                student.master(),
                Share::of(student.master().layout(), config),
                &config.optimizer,
            )?,
            scaler,
            learning_rate: LearningRate::new(config, total_steps),
            max_grad_norm: config.optimizer.max_grad_norm,
        })
    }

    /// The loss of which gradients are taken: one of so many `shares` of an update, under fp16 scaled.
    pub fn share(&self, loss: &Tensor, shares: f64) -> Tensor {
        let factor = self.scaler.as_ref().map_or(1.0, LossScaler::scale) / shares;
        if factor == 1.0 {
            loss.shallow_clone()
        } else {
            loss * factor
        }
    }

    /// Changes the student by the gradients of `loss`, as the update after `step` finished ones, and moves its average, if
    /// both are finite.
    ///
    /// Whether they are, the device finds out by itself. Only under fp16 does the host wait for the gradient's norm,
    /// to know whether the loss scale must come down.
    ///
    /// # Errors
    /// What LibTorch refuses, or gradients that overflow at every scale.
    pub fn apply(
        &mut self,
        student: &Mastered,
        average: Option<&Average>,
        gradients: Gradients,
        loss: &Tensor,
        step: u64,
    ) -> Result<Update, TrainError> {
        let gradients = match student.master().device() {
            Device::Cpu => gradients,
            _ => gradients.widened()?,
        };
        let mut grad_norm = gradients.norm()?;
        let mut unscale = 1.0;
        if let Some(scaler) = &mut self.scaler {
            unscale = 1.0 / scaler.scale();
            let (norm, loss) = catch(|| {
                grad_norm *= unscale;
                (grad_norm.double_value(&[]), loss.double_value(&[]))
            })?;
            // A loss that is no number is not the scale's fault.
            if loss.is_finite() && !norm.is_finite() {
                scaler.overflowed()?;
                return Ok(Update::Overflow {
                    scale: scaler.scale(),
                });
            }
            if loss.is_finite() {
                scaler.applied();
            }
        }
        let skip = catch(|| {
            let finite = loss.isfinite().logical_and(&grad_norm.isfinite());
            finite.logical_not().to_kind(Kind::Float)
        })?;
        let clip = clip_factor(&grad_norm, self.max_grad_norm)?;
        let lr = self.learning_rate.at(step);
        let stride = Stride {
            lr,
            factor: &catch(|| clip * unscale)?,
            skip: &skip,
        };
        self.optimizer.step(student, average, gradients, &stride)?;
        Ok(Update::Launched { grad_norm, skip, lr })
    }
}
