//! Painting over pictures against diffusers' pipelines, step by step.

use std::collections::BTreeMap;

use super::common::{assert_near, fixture, golden};
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{
    Conditions, DdimOptions, Denoiser, Inpainting, LcmOptions, PipelineOptions, Prompts, StepDone, load_unet,
};
use fewstep_models::schedule::{DdimSampler, DdimTimesteps, LcmSampler, LcmTimesteps, SchedulerConfig};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig};
use fewstep_models::weights::{Component, Folder};
use tch::{Device, Kind, Tensor};

type Golden = BTreeMap<String, Tensor>;
type Network = (UNet2DConditionModel, Weights, SchedulerConfig);

/// How a golden run was sampled.
enum Sampling {
    Lcm(LcmTimesteps),
    Ddim(DdimTimesteps),
}

/// One of the tiny models.
fn network(model: &str) -> Network {
    load(model, PipelineOptions::new(Device::Cpu, Kind::Float))
}

/// tiny-sd with a UNet that takes a guidance embedding.
fn embedded() -> Network {
    let options = PipelineOptions {
        unet: Some(fixture("models/loader/full/unet")),
        ..PipelineOptions::new(Device::Cpu, Kind::Float)
    };
    load("tiny-sd", options)
}

fn load(model: &str, options: PipelineOptions) -> Network {
    let folder = Folder::open(&fixture("models").join(model)).unwrap();
    load_unet(&folder, &options).unwrap()
}

/// tiny-sd with five more channels going in.
fn nine_channels(golden: &Golden) -> Network {
    let (_, weights, scheduler) = network("tiny-sd");
    let component = Component::open(&fixture("models/tiny-sd/unet")).unwrap();
    let mut config = component.config().clone();
    config["in_channels"] = 9.into();
    let unet = UNet2DConditionModel::new(UNetConfig::from_json(&config).unwrap()).unwrap();
    let tensors = unet.layout().specs().iter().map(|spec| match spec.name.as_str() {
        "conv_in.weight" => golden["in.conv_in.weight"].shallow_clone(),
        name => weights.get(name).unwrap().shallow_clone(),
    });
    let weights = Weights::new(unet.layout().clone(), tensors.collect());
    (unet, weights, scheduler)
}

/// Runs the sampler over the golden picture, and compares every step. It starts at pure noise if `from_noise`.
fn compare(
    label: &str,
    golden: &Golden,
    network: &Network,
    inpainting: Option<&Inpainting>,
    (sampling, guidance_scale, from_noise): (Sampling, f64, bool),
) {
    let (unet, weights, scheduler) = network;
    let denoiser = Denoiser {
        unet,
        weights,
        scheduler,
        inpainting,
    };
    let conditions = |name: &str| Conditions::from(golden[name].shallow_clone());
    let prompts = Prompts {
        cond: conditions("in.prompt_embeds"),
        uncond: Some(conditions("in.uncond_prompt_embeds")),
    };
    let timeline = match &sampling {
        Sampling::Lcm(timesteps) => LcmSampler::new(scheduler, timesteps).unwrap().timeline().clone(),
        Sampling::Ddim(timesteps) => DdimSampler::new(scheduler, timesteps).unwrap().timeline().clone(),
    };
    let start = match from_noise {
        false => timeline.start(&golden["in.picture"], &golden["in.latents"]),
        true => golden["in.latents"].shallow_clone(),
    };
    let noise = |step: usize, _: &[i64]| golden[&format!("in.noise.{step}")].shallow_clone();
    let mut seen = 0;
    let progress = |done: StepDone<'_>| {
        let wanted = &golden[&format!("out.latents.{}", done.index)];
        assert_near(label, done.latents, wanted, 1e-5);
        seen += 1;
    };
    let _last = match sampling {
        Sampling::Lcm(timesteps) => {
            let options = LcmOptions {
                timesteps,
                guidance_scale,
            };
            denoiser.lcm(&prompts, &options, &start, noise, progress).unwrap()
        }
        Sampling::Ddim(timesteps) => {
            let options = DdimOptions {
                timesteps,
                guidance_scale,
            };
            denoiser.ddim(&prompts, &options, &start, progress).unwrap()
        }
    };
    let steps = golden
        .keys()
        .filter(|name| name.starts_with("out.latents."))
        .count();
    assert_eq!(seen, steps, "{label}");
}

#[test]
fn half_a_picture_is_painted_in_both_ways() {
    let spread = Sampling::Lcm(LcmTimesteps {
        strength: 0.5,
        ..LcmTimesteps::count(4)
    });
    let golden_run = golden("canvas-lcm");
    compare("canvas-lcm", &golden_run, &embedded(), None, (spread, 8.0, false));
    let network = network("tiny-sd");
    let last = LcmTimesteps::last_part(&network.2, 4, None, 0.5).unwrap();
    let how = (Sampling::Lcm(last), 1.5, false);
    compare("canvas-last", &golden("canvas-last"), &network, None, how);
}

#[test]
fn ddim_paints_over_a_picture() {
    for (label, model, steps, strength, guidance_scale) in [
        ("canvas-ddim", "tiny-sd", 5, 0.7, 7.5),
        ("canvas-ddim-v", "tiny-sd2", 4, 0.5, 1.0),
    ] {
        let how = Sampling::Ddim(DdimTimesteps { steps, strength });
        let network = network(model);
        compare(
            label,
            &golden(label),
            &network,
            None,
            (how, guidance_scale, false),
        );
    }
}

#[test]
fn a_part_is_painted_by_either_kind_of_unet() {
    for label in ["canvas-inpaint", "canvas-inpaint-nine", "canvas-ddim-inpaint"] {
        let golden = golden(label);
        let network = match label {
            "canvas-inpaint-nine" => nine_channels(&golden),
            _ => network("tiny-sd"),
        };
        let part = Inpainting {
            mask: golden["in.mask"].shallow_clone(),
            picture: golden["in.picture"].shallow_clone(),
            masked_picture: golden["in.masked_picture"].shallow_clone(),
            noise: golden["in.latents"].shallow_clone(),
        };
        let how = match label {
            "canvas-ddim-inpaint" => {
                let (steps, strength) = (4, 0.75);
                (Sampling::Ddim(DdimTimesteps { steps, strength }), 4.0, false)
            }
            _ => (Sampling::Lcm(LcmTimesteps::count(3)), 4.0, true),
        };
        compare(label, &golden, &network, Some(&part), how);
    }
}
