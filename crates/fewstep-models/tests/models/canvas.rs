//! Painting over pictures against diffusers' pipelines, step by step.

use std::collections::BTreeMap;

use super::common::{assert_near, fixture, golden};
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{
    Conditions, Denoiser, Inpainting, LcmOptions, PipelineOptions, Prompts, StepDone, load_unet,
};
use fewstep_models::schedule::{LcmTimesteps, SchedulerConfig};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig};
use fewstep_models::weights::{Component, Folder};
use tch::{Device, Kind, Tensor};

type Golden = BTreeMap<String, Tensor>;
type Network = (UNet2DConditionModel, Weights, SchedulerConfig);

/// tiny-sd, with the UNet that takes a guidance embedding if `embedded`.
fn network(embedded: bool) -> Network {
    let options = PipelineOptions {
        unet: embedded.then(|| fixture("models/loader/full/unet")),
        ..PipelineOptions::new(Device::Cpu, Kind::Float)
    };
    load_unet(&Folder::open(&fixture("models/tiny-sd")).unwrap(), &options).unwrap()
}

/// tiny-sd with five more channels going in.
fn nine_channels(golden: &Golden) -> Network {
    let (_, weights, scheduler) = network(false);
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

/// Runs the sampler over the golden picture, and compares every step.
fn compare(
    label: &str,
    golden: &Golden,
    network: &Network,
    inpainting: Option<&Inpainting>,
    (timesteps, guidance_scale): (LcmTimesteps, f64),
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
    let start = match inpainting {
        None => denoiser
            .lcm_start(&timesteps, &golden["in.picture"], &golden["in.latents"])
            .unwrap(),
        Some(_) => golden["in.latents"].shallow_clone(),
    };
    let options = LcmOptions {
        timesteps,
        guidance_scale,
    };
    let noise = |step: usize, _: &[i64]| golden[&format!("in.noise.{step}")].shallow_clone();
    let mut seen = 0;
    let progress = |done: StepDone<'_>| {
        let wanted = &golden[&format!("out.latents.{}", done.index)];
        assert_near(label, done.latents, wanted, 1e-5);
        seen += 1;
    };
    let _last = denoiser.lcm(&prompts, &options, &start, noise, progress).unwrap();
    let steps = golden
        .keys()
        .filter(|name| name.starts_with("out.latents."))
        .count();
    assert_eq!(seen, steps, "{label}");
}

#[test]
fn half_a_picture_is_painted_in_both_ways() {
    let network = network(true);
    let spread = LcmTimesteps {
        strength: 0.5,
        ..LcmTimesteps::count(4)
    };
    compare("canvas-lcm", &golden("canvas-lcm"), &network, None, (spread, 8.0));
    let network = self::network(false);
    let last = LcmTimesteps::last_part(&network.2, 4, None, 0.5).unwrap();
    compare("canvas-last", &golden("canvas-last"), &network, None, (last, 1.5));
}

#[test]
fn a_part_is_painted_by_either_kind_of_unet() {
    for label in ["canvas-inpaint", "canvas-inpaint-nine"] {
        let golden = golden(label);
        let network = match label {
            "canvas-inpaint" => network(false),
            _ => nine_channels(&golden),
        };
        let part = Inpainting {
            mask: golden["in.mask"].shallow_clone(),
            picture: golden["in.picture"].shallow_clone(),
            masked_picture: golden["in.masked_picture"].shallow_clone(),
            noise: golden["in.latents"].shallow_clone(),
        };
        let whole = (LcmTimesteps::count(3), 4.0);
        compare(label, &golden, &network, Some(&part), whole);
    }
}
