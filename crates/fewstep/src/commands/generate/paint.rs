//! Prompts through the pipeline, batch by batch.

use fewstep_models::pipeline::{DdimOptions, LcmOptions, PictureNoise, Pipeline, Prompts, Rgb8};
use fewstep_models::schedule::LcmTimesteps;
use tch::Tensor;

use super::{Args, Sampler};
use crate::progress::Progress;

/// Paints `num_images` pictures of every prompt. Pictures are numbered through, prompt by prompt; the seed and
/// a picture's number decide its noise.
///
/// # Errors
/// Settings that do not fit the model, and what LibTorch refuses.
pub(super) fn paint(args: &Args, pipeline: &Pipeline, prompts: &[String]) -> anyhow::Result<Vec<Rgb8>> {
    let shape = pipeline.latent_shape(args.height.map(i64::from), args.width.map(i64::from))?;
    let told = pipeline.prompts(prompts, args.negative_prompt.as_deref(), &shape)?;
    let numbers = (0..prompts.len() as u64 * u64::from(args.num_images)).collect::<Vec<_>>();
    let batches = numbers.chunks(args.batch_size as usize);
    let steps = u64::from(args.steps());
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
        let latents = sample(args, pipeline, &prompts, &start, &mut noise, done)?;
        pictures.extend(Rgb8::from_pixels(&pipeline.decode(&latents)?)?);
    }
    progress.finish();
    Ok(pictures)
}

fn sample(
    args: &Args,
    pipeline: &Pipeline,
    prompts: &Prompts,
    start: &Tensor,
    noise: &mut PictureNoise,
    mut done: impl FnMut(usize),
) -> anyhow::Result<Tensor> {
    let steps = i64::from(args.steps());
    let guidance_scale = args.guidance_scale();
    let latents = match args.sampler {
        Sampler::Lcm => {
            let options = LcmOptions {
                timesteps: LcmTimesteps {
                    original_inference_steps: args.original_inference_steps.map(i64::from),
                    ..LcmTimesteps::count(steps)
                },
                guidance_scale,
            };
            let between = |_: usize, shape: &[i64]| noise.after_step(&shape[1..]);
            pipeline.lcm(prompts, &options, start, between, |step| done(step.index))
        }
        Sampler::Ddim => {
            let options = DdimOptions {
                steps,
                guidance_scale,
            };
            pipeline.ddim(prompts, &options, start, |step| done(step.index))
        }
    }?;
    Ok(latents)
}
