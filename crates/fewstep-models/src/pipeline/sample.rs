//! The sampling loops. Latents stay f32 between the steps, whatever the UNet computes in.

use libtorch_ext::catch;
use tch::{Kind, Tensor};

use super::denoiser::Guided;
use super::{Denoiser, Prompts};
use crate::schedule::{DdimSampler, DdimTimesteps, LcmSampler, LcmTimesteps, Timeline};
use crate::weights::ModelError;

/// How a distilled student paints.
#[derive(Debug, Clone, PartialEq)]
pub struct LcmOptions {
    /// How many steps, or which.
    pub timesteps: LcmTimesteps,
    /// g; the student is told w = g - 1. A UNet without a guidance embedding is guided by two evaluations a
    /// step where g is above 1.
    pub guidance_scale: f64,
}

/// How a teacher paints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimOptions {
    /// How many steps, of which the last are done.
    pub timesteps: DdimTimesteps,
    /// g of u + g (c - u); at most 1 is no guidance, and half the work.
    pub guidance_scale: f64,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct StepDone<'a> {
    /// The number of the step that is done, from 0.
    pub index: usize,
    /// How many there are.
    pub steps: usize,
    /// The latents after it, `[B, C, h, w]` f32.
    pub latents: &'a Tensor,
}

impl Denoiser<'_> {
    /// Multistep consistency sampling. `latents` `[B, C, h, w]` are pure noise, or a noisy picture where the
    /// timesteps start later. `noise` is called after every step but the last, with the step's number and the
    /// latents' shape, for as many normal numbers. Returns the latents of the pictures, f32.
    ///
    /// # Errors
    /// Timesteps that cannot be, inputs that do not fit the UNet, or what LibTorch refuses.
    pub fn lcm(
        &self,
        prompts: &Prompts,
        options: &LcmOptions,
        latents: &Tensor,
        mut noise: impl FnMut(usize, &[i64]) -> Tensor,
        progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        let sampler = LcmSampler::new(self.scheduler, &options.timesteps)?;
        let step = |index: usize, o: &Tensor, z: &Tensor| {
            let noise = || noise(index, &z.size()).to_device(z.device());
            sampler.step(index, o, z, noise).prev_sample
        };
        let guidance_scale = options.guidance_scale;
        self.run(
            prompts,
            guidance_scale,
            sampler.timeline(),
            latents,
            step,
            progress,
        )
    }

    /// DDIM with classifier-free guidance. `latents` `[B, C, h, w]` are pure noise, or a noisy picture where the
    /// timesteps start later. Returns the latents of the pictures, f32.
    ///
    /// # Errors
    /// Timesteps that cannot be, inputs that do not fit the UNet, or what LibTorch refuses.
    pub fn ddim(
        &self,
        prompts: &Prompts,
        options: &DdimOptions,
        latents: &Tensor,
        progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        let sampler = DdimSampler::new(self.scheduler, &options.timesteps)?;
        let step = |index: usize, o: &Tensor, z: &Tensor| sampler.step(index, o, z);
        let guidance_scale = options.guidance_scale;
        self.run(
            prompts,
            guidance_scale,
            sampler.timeline(),
            latents,
            step,
            progress,
        )
    }

    fn run(
        &self,
        prompts: &Prompts,
        guidance_scale: f64,
        timeline: &Timeline,
        latents: &Tensor,
        mut step: impl FnMut(usize, &Tensor, &Tensor) -> Tensor,
        mut progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        let batch = latents.size().first().copied().unwrap_or_default();
        let guided = Guided::new(*self, prompts, guidance_scale, batch)?;
        let mut z = latents.to_device(self.weights.device()).to_kind(Kind::Float);
        let timesteps = timeline.timesteps();
        for (index, &t) in timesteps.iter().enumerate() {
            let o = guided.predict(&z, t)?;
            z = catch(|| self.keep_rest(timeline, index, step(index, &o, &z)))?;
            progress(StepDone {
                index,
                steps: timesteps.len(),
                latents: &z,
            });
        }
        Ok(z)
    }

    /// The latents after step number `index`, with what is not to be painted put back, unless the UNet sees it.
    fn keep_rest(&self, timeline: &Timeline, index: usize, z: Tensor) -> Tensor {
        match self.inpainting {
            Some(inpainting) if !self.is_for_inpainting() => {
                let rest = timeline.noisy_after(index, &inpainting.picture, &inpainting.noise);
                inpainting.keep_rest(&z, &rest)
            }
            _ => z,
        }
    }
}
