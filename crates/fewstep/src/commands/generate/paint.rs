//! Prompts through the pipeline, batch by batch.

use fewstep_models::pipeline::{Inpainting, PictureNoise, Pipeline, Prompts, Rgb8, StepDone};
use libtorch_ext::catch;
use tch::Tensor;

use super::Args;
use super::canvas::Canvas;
use super::sampling::Sampling;
use crate::progress::Progress;

/// Paints `num_images` pictures of every prompt. Pictures are numbered through, prompt by prompt; the seed and
/// a picture's number decide its noise.
///
/// # Errors
/// Settings that do not fit the model, and what LibTorch refuses.
pub(super) fn paint(
    args: &Args,
    sampling: &Sampling,
    pipeline: &Pipeline,
    prompts: &[String],
) -> anyhow::Result<Vec<Rgb8>> {
    let canvas = args.canvas.load(pipeline, (args.height, args.width), args.seed)?;
    let shape = match &canvas {
        None => pipeline.latent_shape(args.height.map(i64::from), args.width.map(i64::from))?,
        Some(canvas) => {
            let size = canvas.picture.size();
            [size[1], size[2], size[3]]
        }
    };
    let told = pipeline.prompts(prompts, args.negative_prompt.as_deref(), &shape)?;
    let numbers = (0..prompts.len() as u64 * u64::from(args.num_images)).collect::<Vec<_>>();
    let batches = numbers.chunks(args.batch_size as usize);
    let steps = sampling.timeline().timesteps().len() as u64;
    let mut progress = Progress::new(0, steps * batches.len() as u64);
    let mut pictures = Vec::with_capacity(numbers.len());
    for (nth, batch) in batches.enumerate() {
        let rows = batch
            .iter()
            .map(|number| (number / u64::from(args.num_images)) as i64)
            .collect::<Vec<_>>();
        let rows = Tensor::from_slice(&rows).to_device(told.cond.prompt_embeds.device());
        let mut noise = PictureNoise::new(args.seed, batch.iter().copied());
        let start = noise.initial(&shape);
        let done = |step: usize| {
            let text = format!("picture {} of {}", pictures.len() + batch.len(), numbers.len());
            progress.step(nth as u64 * steps + step as u64 + 1, &text);
        };
        let painting = Painting {
            pipeline,
            sampling,
            canvas: canvas.as_ref(),
        };
        let latents = painting.batch(&told.rows(&rows), &start, &mut noise, done)?;
        pictures.extend(Rgb8::from_pixels(&pipeline.decode(&latents)?)?);
    }
    progress.finish();
    Ok(pictures)
}

/// What all batches have in common.
struct Painting<'a> {
    pipeline: &'a Pipeline,
    sampling: &'a Sampling,
    canvas: Option<&'a Canvas>,
}

impl Painting<'_> {
    /// The latents of a batch of pictures, from their noise `start` `[B, C, h, w]`.
    fn batch(
        &self,
        prompts: &Prompts,
        start: &Tensor,
        noise: &mut PictureNoise,
        mut done: impl FnMut(usize),
    ) -> anyhow::Result<Tensor> {
        let mut denoiser = self.pipeline.denoiser();
        let start = start.to_device(denoiser.weights.device());
        let first = match self.canvas {
            Some(canvas) if !canvas.from_pure_noise => {
                catch(|| self.sampling.timeline().start(&canvas.picture, &start))?
            }
            _ => start.shallow_clone(),
        };
        let inpainting = self.canvas.and_then(|canvas| {
            let part = canvas.part.as_ref()?;
            Some(Inpainting {
                mask: part.mask.shallow_clone(),
                picture: canvas.picture.shallow_clone(),
                masked_picture: part.masked_picture.shallow_clone(),
                noise: start,
            })
        });
        denoiser.inpainting = inpainting.as_ref();
        let progress = |step: StepDone<'_>| done(step.index);
        Ok(self.sampling.paint(&denoiser, prompts, &first, noise, progress)?)
    }
}
