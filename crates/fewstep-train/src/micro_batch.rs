//! From a batch of pictures and captions to the tensors of a step.

use fewstep_data::Batch;
use fewstep_draw::Purpose;
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
    latents: Tensor,
    noise: Tensor,
    steps: SolverSteps,
    w: Tensor,
    prompt_embeds: Tensor,
    uncond_prompt_embeds: Tensor,
}

/// What makes them.
#[derive(Debug)]
pub(crate) struct Preparer {
    /// The frozen networks before the UNet.
    pub(crate) conditioner: Conditioner,
    /// What is drawn at random.
    pub(crate) draws: Draws,
    /// Where the tensors go.
    pub(crate) device: Device,
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
        } = self;
        let samples = batch.sample_numbers.as_slice();
        let side = i64::from(batch.resolution);
        let pixels = Tensor::f_from_slice(&batch.pixels)
            .and_then(|pixels| pixels.f_view([-1, 3, side, side]))
            .map_err(TorchError::from)?;
        let latents = conditioner.latents(&pixels, samples, draws)?;
        let prompt_embeds = conditioner.prompts(&batch.captions, samples, draws)?;
        let w = Tensor::f_from_slice(&draws.guidance_scale(samples))
            .and_then(|w| w.f_to_device(*device))
            .map_err(TorchError::from)?;
        unet.check_input(&UNetInput {
            sample: &latents,
            timestep: &w,
            encoder_hidden_states: &prompt_embeds,
            timestep_cond: None,
            added: None,
        })?;
        Ok(MicroBatch {
            noise: draws.normal(Purpose::LatentNoise, samples, &latents.size()[1..], *device)?,
            steps: objective.solver_steps(&draws.index(samples), *device)?,
            uncond_prompt_embeds: conditioner.empty_prompt().shallow_clone(),
            latents,
            w,
            prompt_embeds,
        })
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
            prompt_embeds: &self.prompt_embeds,
            uncond_prompt_embeds: &self.uncond_prompt_embeds,
        }
    }
}
