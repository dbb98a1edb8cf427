//! From a batch of pictures and captions to the tensors of a step.

use fewstep_data::{Batch, PictureSizes};
use fewstep_draw::Purpose;
use fewstep_models::pipeline::Conditions;
use fewstep_models::unet::{UNet2DConditionModel, UNetInput};
use libtorch_ext::TorchError;
use tch::{Device, Tensor};

use crate::conditioning::Conditioner;
use crate::draw::Draws;
use crate::error::TrainError;
use crate::step::{Objective, SolverSteps, StepInputs};

/// The tensors of one step, on the device.
#[derive(Debug)]
pub(crate) struct MicroBatch {
    pub(crate) latents: Tensor,
    pub(crate) noise: Tensor,
    steps: SolverSteps,
    pub(crate) w: Tensor,
    pub(crate) cond: Conditions,
    pub(crate) uncond: Conditions,
}

/// What makes them.
#[derive(Debug)]
pub(crate) struct Preparer {
    /// The frozen networks before the UNet.
    pub(crate) conditioner: Conditioner,
    /// What is drawn at random.
    pub(crate) draws: Draws,
    /// Which sizes SDXL is told.
    pub(crate) sizes: Sizes,
    /// Where the tensors go.
    pub(crate) device: Device,
}

/// Which sizes SDXL is told of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Its own, and where it was cropped.
    OfPictures,
    /// Those of a picture that was painted whole in the trained resolution.
    Fixed,
}

impl Preparer {
    /// Encodes pictures and captions, and draws what a step draws, each by its sample's number.
    ///
    /// # Errors
    /// Networks that do not fit together, or what LibTorch refuses.
    pub(crate) fn prepare(
        &self,
        batch: &Batch,
        objective: &Objective,
        unet: &UNet2DConditionModel,
    ) -> Result<MicroBatch, TrainError> {
        let Preparer {
            conditioner,
            draws,
            device,
            ..
        } = self;
        let samples = batch.sample_numbers.as_slice();
        let side = i64::from(batch.resolution);
        let pixels = Tensor::f_from_slice(&batch.pixels)
            .and_then(|pixels| pixels.f_view([-1, 3, side, side]))
            .map_err(TorchError::from)?;
        let latents = conditioner.latents(&pixels, &batch.latents, samples, draws)?;
        let time_ids = self.time_ids(batch)?;
        let (cond, uncond) = conditioner.conditions(&batch.captions, &time_ids, samples, draws)?;
        let w = Tensor::f_from_slice(&draws.guidance_scale(samples))
            .and_then(|w| w.f_to_device(*device))
            .map_err(TorchError::from)?;
        unet.check_input(&UNetInput {
            sample: &latents,
            timestep: &w,
            encoder_hidden_states: &cond.prompt_embeds,
            timestep_cond: None,
            added: cond.added(),
        })?;
        Ok(MicroBatch {
            noise: draws.normal(Purpose::LatentNoise, samples, &latents.size()[1..], *device)?,
            steps: objective.solver_steps(&draws.index(samples), *device)?,
            latents,
            w,
            cond,
            uncond,
        })
    }

    /// What SDXL is told of the pictures' sizes, `[B, 6]` f32 on the device.
    fn time_ids(&self, batch: &Batch) -> Result<Tensor, TrainError> {
        let told = |sizes: &PictureSizes| match self.sizes {
            Sizes::OfPictures => sizes.time_ids(),
            Sizes::Fixed => sizes.as_if_whole().time_ids(),
        };
        let pixels = batch.sizes.iter().flat_map(told);
        let ids: Vec<f32> = pixels.map(|pixels| pixels as f32).collect();
        Ok(Tensor::f_from_slice(&ids)
            .and_then(|ids| ids.f_view([-1, 6]))
            .and_then(|ids| ids.f_to_device(self.device))
            .map_err(TorchError::from)?)
    }
}

impl MicroBatch {
    /// As a step takes them.
    pub(crate) fn inputs(&self) -> StepInputs<'_> {
        StepInputs {
            latents: &self.latents,
            noise: &self.noise,
            steps: &self.steps,
            w: &self.w,
            cond: &self.cond,
            uncond: &self.uncond,
        }
    }
}
