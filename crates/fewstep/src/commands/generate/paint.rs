//! Prompts through the pipeline, batch by batch.

use fewstep_models::pipeline::{DdimOptions, Inpainting, LcmOptions, PictureNoise, Pipeline, Prompts, Rgb8};
use fewstep_models::schedule::LcmTimesteps;
use tch::Tensor;

use super::canvas::Canvas;
use super::{Args, Sampler};
use crate::progress::Progress;

/// Paints `num_images` pictures of every prompt. Pictures are numbered through, prompt by prompt; the seed and
/// a picture's number decide its noise.
///
/// # Errors
/// Settings that do not fit the model, and what LibTorch refuses.
pub(super) fn paint(args: &Args, pipeline: &Pipeline, prompts: &[String]) -> anyhow::Result<Vec<Rgb8>> {
    let timesteps = LcmTimesteps {
        original_inference_steps: args.original_inference_steps.map(i64::from),
        ..LcmTimesteps::count(i64::from(args.steps()))
    };
    let canvas = args
        .canvas
        .load(pipeline, (args.height, args.width), &timesteps, args.seed)?;
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
    let steps = match &canvas {
        None => u64::from(args.steps()),
        Some(canvas) => canvas.steps,
    };
    let mut progress = Progress::new(0, steps * batches.len() as u64);
    let mut pictures = Vec::with_capacity(numbers.len());
    for (nth, batch) in batches.enumerate() {
        let rows = batch
            .iter()
            .map(|number| (number / u64::from(args.num_images)) as i64)
            .collect::<Vec<_>>();
        let rows = Tensor::from_slice(&rows).to_device(told.cond.prompt_embeds.device());
        let prompts = told.rows(&rows);
        let mut noise = PictureNoise::new(args.seed, batch.iter().copied());
        let start = noise.initial(&shape);
        let done = |step: usize| {
            let text = format!("picture {} of {}", pictures.len() + batch.len(), numbers.len());
            progress.step(nth as u64 * steps + step as u64 + 1, &text);
        };
        let latents = match args.sampler {
            Sampler::Lcm => lcm(
                args,
                pipeline,
                &prompts,
                (canvas.as_ref(), &timesteps),
                &start,
                &mut noise,
                done,
            )?,
            Sampler::Ddim => ddim(args, pipeline, &prompts, &start, done)?,
        };
        pictures.extend(Rgb8::from_pixels(&pipeline.decode(&latents)?)?);
    }
    progress.finish();
    Ok(pictures)
}

fn lcm(
    args: &Args,
    pipeline: &Pipeline,
    prompts: &Prompts,
    (canvas, timesteps): (Option<&Canvas>, &LcmTimesteps),
    start: &Tensor,
    noise: &mut PictureNoise,
    mut done: impl FnMut(usize),
) -> anyhow::Result<Tensor> {
    let options = LcmOptions {
        timesteps: canvas.map_or(timesteps, |canvas| &canvas.timesteps).clone(),
        guidance_scale: args.guidance_scale(),
    };
    let mut denoiser = pipeline.denoiser();
    let start = start.to_device(denoiser.weights.device());
    let first = match canvas {
        Some(canvas) if !canvas.from_pure_noise => {
            denoiser.lcm_start(&options.timesteps, &canvas.picture, &start)?
        }
        _ => start.shallow_clone(),
    };
    let inpainting = canvas.and_then(|canvas| {
        let part = canvas.part.as_ref()?;
        Some(Inpainting {
            mask: part.mask.shallow_clone(),
            picture: canvas.picture.shallow_clone(),
            masked_picture: part.masked_picture.shallow_clone(),
            noise: start,
        })
    });
    denoiser.inpainting = inpainting.as_ref();
    let between = |_: usize, shape: &[i64]| noise.after_step(&shape[1..]);
    Ok(denoiser.lcm(prompts, &options, &first, between, |step| done(step.index))?)
}

fn ddim(
    args: &Args,
    pipeline: &Pipeline,
    prompts: &Prompts,
    start: &Tensor,
    mut done: impl FnMut(usize),
) -> anyhow::Result<Tensor> {
    let options = DdimOptions {
        steps: i64::from(args.steps()),
        guidance_scale: args.guidance_scale(),
    };
    Ok(pipeline.ddim(prompts, &options, start, |step| done(step.index))?)
}
