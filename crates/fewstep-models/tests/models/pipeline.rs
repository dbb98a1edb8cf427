//! Whole sampling runs against diffusers' pipelines, step by step, and what a pipeline refuses.

use std::path::PathBuf;

use super::common::{assert_near, fixture, golden};
use fewstep_models::pipeline::{
    DdimOptions, LcmOptions, PictureNoise, Pipeline, PipelineOptions, Prompts, Rgb8, StepDone,
};
use fewstep_models::schedule::{DdimTimesteps, LcmTimesteps};
use fewstep_models::weights::{Folder, ModelError};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The captions of the golden DDIM runs.
const CAPTIONS: [&str; 2] = ["a red circle above a blue square", "the photo of a cat"];

fn load(model: &str, unet: Option<PathBuf>) -> Result<Pipeline, ModelError> {
    load_as(Kind::Float, model, unet)
}

fn load_as(dtype: Kind, model: &str, unet: Option<PathBuf>) -> Result<Pipeline, ModelError> {
    let options = PipelineOptions {
        unet,
        ..PipelineOptions::new(Device::Cpu, dtype)
    };
    Pipeline::load(&Folder::open(&fixture("models").join(model))?, &options)
}

/// tiny-sd with a UNet that takes a guidance embedding.
fn student(model: &str) -> Pipeline {
    load(model, Some(fixture("models/loader/full/unet"))).unwrap()
}

fn prompts(cond: &Tensor, uncond: Option<&Tensor>) -> Prompts {
    Prompts {
        cond: cond.shallow_clone().into(),
        uncond: uncond.map(|t| t.shallow_clone().into()),
    }
}

fn lcm_options(steps: i64, guidance_scale: f64, original_inference_steps: Option<i64>) -> LcmOptions {
    LcmOptions {
        timesteps: LcmTimesteps {
            original_inference_steps,
            ..LcmTimesteps::count(steps)
        },
        guidance_scale,
    }
}

#[test]
fn lcm_runs_are_the_lcm_pipelines() {
    for (label, model, steps, guidance_scale, original) in [
        ("lcm-tiny-sd", "tiny-sd", 4, 8.0, 50),
        ("lcm-tiny-sd2", "tiny-sd2", 3, 4.5, 30),
    ] {
        let (pipeline, golden) = (student(model), golden(label));
        let noise = |i: usize, shape: &[i64]| {
            let noise = &golden[&format!("in.noise.{i}")];
            assert_eq!(noise.size(), shape);
            noise.shallow_clone()
        };
        let mut seen = 0;
        let latents = pipeline
            .lcm(
                &prompts(&golden["in.prompt_embeds"], None),
                &lcm_options(steps, guidance_scale, Some(original)),
                &golden["in.latents"],
                noise,
                |done: StepDone<'_>| {
                    let wanted = &golden[&format!("out.latents.{}", done.index)];
                    assert_near(label, done.latents, wanted, 1e-5);
                    seen += 1;
                },
            )
            .unwrap();
        assert_eq!(seen, steps);
        let pixels = pipeline.decode(&latents).unwrap();
        assert_near(label, &pixels, &golden["out.pixels"], 1e-5);
    }
}

#[test]
fn ddim_runs_from_captions_are_the_stable_diffusion_pipelines() {
    for (label, model, steps, guidance_scale) in [
        ("ddim-tiny-sd", "tiny-sd", 5, 7.5),
        ("ddim-tiny-sd2", "tiny-sd2", 4, 3.0),
    ] {
        let (pipeline, golden) = (load(model, None).unwrap(), golden(label));
        let shape = pipeline.latent_shape(None, None).unwrap();
        let prompts = pipeline.prompts(&CAPTIONS, None, &shape).unwrap();
        assert_near(
            label,
            &prompts.cond.prompt_embeds,
            &golden["in.prompt_embeds"],
            1e-5,
        );
        let options = DdimOptions {
            timesteps: DdimTimesteps::count(steps),
            guidance_scale,
        };
        let progress = |done: StepDone<'_>| {
            let wanted = &golden[&format!("out.latents.{}", done.index)];
            assert_near(label, done.latents, wanted, 2e-5);
        };
        let latents = pipeline
            .ddim(&prompts, &options, &golden["in.latents"], progress)
            .unwrap();
        let pixels = pipeline.decode(&latents).unwrap();
        assert_near(label, &pixels, &golden["out.pixels"], 2e-5);
    }
}

#[test]
fn a_picture_depends_on_seed_and_number_not_on_its_batch() {
    let pipeline = student("tiny-sd");
    let shape = pipeline.latent_shape(None, None).unwrap();
    let prompt = golden("lcm-tiny-sd")["in.prompt_embeds"].narrow(0, 0, 1);
    let paint = |pictures: std::ops::Range<u64>| {
        let mut noise = PictureNoise::new(3, pictures);
        let latents = noise.initial(&shape);
        let between = |_: usize, size: &[i64]| noise.after_step(&size[1..]);
        let prompts = prompts(&prompt, None);
        pipeline
            .lcm(&prompts, &lcm_options(3, 8.0, None), &latents, between, |_| ())
            .unwrap()
    };
    let (together, alone) = (paint(0..3), paint(2..3));
    assert_near("picture 2", &alone.get(0), &together.get(2), 1e-5);
    let other = (together.get(1) - together.get(2)).abs().max().double_value(&[]);
    assert!(other > 0.1, "pictures 1 and 2 differ by {other}");

    let pictures = Rgb8::from_pixels(&pipeline.decode(&together).unwrap()).unwrap();
    assert_eq!(pictures.len(), 3);
    assert_eq!(
        pictures[0].bytes.len(),
        3 * pictures[0].width * pictures[0].height
    );
}

#[test]
fn a_unet_without_guidance_embedding_is_guided_by_two_evaluations() {
    let pipeline = load("tiny-sd", None).unwrap();
    let golden = golden("ddim-tiny-sd");
    let (cond, uncond) = (&golden["in.prompt_embeds"], &golden["in.uncond_prompt_embeds"]);
    let paint = |guidance_scale: f64, uncond: Option<&Tensor>| {
        let options = lcm_options(1, guidance_scale, None);
        let noise = |_: usize, _: &[i64]| unreachable!("one step adds no noise");
        pipeline.lcm(
            &prompts(cond, uncond),
            &options,
            &golden["in.latents"],
            noise,
            |_| (),
        )
    };
    let error = paint(2.0, None).unwrap_err().to_string();
    assert!(
        error.contains("unconditional prompt is missing") && error.contains("scale of 2"),
        "{error}"
    );
    // At timestep 999 the picture is linear in the prediction: guidance extrapolates pictures.
    let (plain, guided) = (paint(1.0, None).unwrap(), paint(3.0, Some(uncond)).unwrap());
    let swapped = prompts(uncond, None);
    let options = lcm_options(1, 1.0, None);
    let unconditional = pipeline
        .lcm(
            &swapped,
            &options,
            &golden["in.latents"],
            |_, _| unreachable!(),
            |_| (),
        )
        .unwrap();
    let wanted = &unconditional + (&plain - &unconditional) * 3.0;
    assert_near("guided", &guided, &wanted, 1e-4);
}

#[test]
fn misfits_are_said_in_a_sentence() {
    let pipeline = student("tiny-sd");
    let latents = Tensor::zeros([2, 4, 8, 8], (Kind::Float, Device::Cpu));
    let prompt = Tensor::zeros([3, 77, 5], (Kind::Float, Device::Cpu));
    let noise = |_: usize, _: &[i64]| unreachable!();
    let options = lcm_options(1, 8.0, None);
    let error = pipeline
        .lcm(&prompts(&prompt, None), &options, &latents, noise, |_| ())
        .unwrap_err();
    assert!(error.to_string().contains("encoder_hidden_states"), "{error}");
    let error = pipeline.latent_shape(Some(33), None).unwrap_err().to_string();
    assert!(error.contains("height of the picture is 33"), "{error}");
}

#[test]
fn a_unet_in_bf16_leaves_latents_and_pictures_in_f32() {
    let golden = golden("ddim-tiny-sd");
    let pipeline = load_as(Kind::BFloat16, "tiny-sd", None).unwrap();
    let shape = pipeline.latent_shape(None, None).unwrap();
    let prompts = pipeline.prompts(&CAPTIONS, None, &shape).unwrap();
    assert_eq!(prompts.cond.prompt_embeds.kind(), Kind::BFloat16);
    let options = DdimOptions {
        timesteps: DdimTimesteps::count(5),
        guidance_scale: 7.5,
    };
    let latents = pipeline
        .ddim(&prompts, &options, &golden["in.latents"], |_| ())
        .unwrap();
    assert_eq!(latents.kind(), Kind::Float);
    assert_near("bf16", &latents, &golden["out.latents.4"], 0.05);
    assert_eq!(pipeline.decode(&latents).unwrap().kind(), Kind::Float);
}

#[test]
fn a_students_own_scheduler_is_used() {
    let run = tempfile::tempdir().unwrap();
    for folder in ["unet", "scheduler"] {
        std::fs::create_dir(run.path().join(folder)).unwrap();
    }
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let from = fixture("models/loader/full/unet").join(file);
        std::fs::copy(from, run.path().join("unet").join(file)).unwrap();
    }
    let scheduler = json!({"_class_name": "LCMScheduler", "original_inference_steps": 2});
    let path = run.path().join("scheduler/scheduler_config.json");
    std::fs::write(path, scheduler.to_string()).unwrap();
    let pipeline = load("tiny-sd", Some(run.path().join("unet"))).unwrap();
    let golden = golden("lcm-tiny-sd");
    let steps = |steps| {
        let prompts = prompts(&golden["in.prompt_embeds"], None);
        let noise = |_: usize, shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let options = lcm_options(steps, 8.0, None);
        pipeline.lcm(&prompts, &options, &golden["in.latents"], noise, |_| ())
    };
    assert!(steps(2).is_ok());
    let error = steps(3).unwrap_err().to_string();
    assert!(error.contains("2 original steps"), "{error}");
}
