//! One evaluation of a UNet under guidance, in whichever of the three ways the UNet takes it.

use libtorch_ext::{NoGrad, catch};
use tch::{Kind, Tensor};

use super::{Conditions, Inpainting, Prompts};
use crate::params::Weights;
use crate::schedule::{SchedulerConfig, guidance_embedding, guide};
use crate::unet::{UNet2DConditionModel, UNetInput};
use crate::weights::ModelError;

/// A UNet with weights and the noise schedule they were trained on: all that sampling needs.
#[derive(Debug, Clone, Copy)]
pub struct Denoiser<'a> {
    /// The network.
    pub unet: &'a UNet2DConditionModel,
    /// Its weights.
    pub weights: &'a Weights,
    /// Its noise schedule, and how samplers shall use it.
    pub scheduler: &'a SchedulerConfig,
    /// The picture of which a part is painted, if one is.
    pub inpainting: Option<&'a Inpainting>,
}

impl Denoiser<'_> {
    /// Whether the UNet was made for inpainting: it takes latents, a mask, and latents again, and gives latents.
    pub(super) fn is_for_inpainting(&self) -> bool {
        let config = self.unet.config();
        config.in_channels == 2 * config.out_channels + 1
    }
}

/// How a guidance scale g reaches the prediction.
#[derive(Debug)]
enum Guidance {
    /// The UNet was distilled with guidance and is told w = g - 1: `timestep_cond`, `[B, C]`.
    Embedded(Tensor),
    /// Two evaluations, unconditional and conditional, mixed by g; in one batch of 2 B.
    Classifier(f64),
    /// A guidance scale of at most 1.
    Off,
}

/// A denoiser with the prompts and the guidance of one run.
#[derive(Debug)]
pub(super) struct Guided<'a> {
    denoiser: Denoiser<'a>,
    guidance: Guidance,
    conditions: Conditions,
}

impl<'a> Guided<'a> {
    /// Prepares what does not change between the steps.
    pub(super) fn new(
        denoiser: Denoiser<'a>,
        prompts: &Prompts,
        guidance_scale: f64,
        batch: i64,
    ) -> Result<Self, ModelError> {
        let device = denoiser.weights.device();
        let cond = || prompts.cond.for_batch(batch).to_device(device);
        let (guidance, conditions) = match (denoiser.unet.config().time_cond_proj_dim, &prompts.uncond) {
            (Some(dim), _) => {
                let w = Tensor::full([batch], guidance_scale - 1.0, (Kind::Float, tch::Device::Cpu));
                let embedding = guidance_embedding(&w, dim).to_device(device);
                (Guidance::Embedded(embedding), catch(cond)?)
            }
            (None, _) if guidance_scale <= 1.0 => (Guidance::Off, catch(cond)?),
            (None, Some(uncond)) => {
                let both = catch(|| {
                    let uncond = uncond.for_batch(batch).to_device(device);
                    uncond.above(&cond())
                })?;
                (Guidance::Classifier(guidance_scale), both)
            }
            (None, None) => {
                return Err(ModelError::input(
                    "the unconditional prompt",
                    format_args!(
                        "is missing: this UNet has no guidance embedding (`time_cond_proj_dim`), so a guidance \
                         scale of {guidance_scale} takes a second evaluation with the empty or a negative prompt"
                    ),
                ));
            }
        };
        Ok(Guided {
            denoiser,
            guidance,
            conditions,
        })
    }

    /// The guided output at latents `z` `[B, C, h, w]` and timestep `t`, f32.
    pub(super) fn predict(&self, z: &Tensor, t: i64) -> Result<Tensor, ModelError> {
        match &self.guidance {
            Guidance::Embedded(timestep_cond) => self.evaluate(z, t, Some(timestep_cond)),
            Guidance::Off => self.evaluate(z, t, None),
            Guidance::Classifier(guidance_scale) => {
                let both = self.evaluate(&catch(|| Tensor::cat(&[z, z], 0))?, t, None)?;
                Ok(catch(|| {
                    let halves = both.chunk(2, 0);
                    guide(&halves[1], &halves[0], *guidance_scale)
                })?)
            }
        }
    }

    fn evaluate(
        &self,
        sample: &Tensor,
        t: i64,
        timestep_cond: Option<&Tensor>,
    ) -> Result<Tensor, ModelError> {
        let Denoiser { unet, weights, .. } = self.denoiser;
        let batch = sample.size().first().copied().unwrap_or_default();
        let beside = match self.denoiser.inpainting {
            Some(inpainting) if self.denoiser.is_for_inpainting() => {
                Some(catch(|| inpainting.beside(sample))?)
            }
            _ => None,
        };
        let sample = beside.as_ref().unwrap_or(sample);
        let timestep = Tensor::full([batch], t, (Kind::Int64, weights.device()));
        let input = UNetInput {
            sample,
            timestep: &timestep,
            encoder_hidden_states: &self.conditions.prompt_embeds,
            timestep_cond,
            added: self.conditions.added(),
        };
        unet.check_input(&input)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            unet.forward(weights, &input).to_kind(Kind::Float)
        })?)
    }
}
