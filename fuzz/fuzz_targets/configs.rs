//! Any JSON as one of a model's configurations. The first line says which; what follows is read as a user's file is, and
//! the network built that it describes, without weights.

#![no_main]

use fewstep_fuzz::{file, first_line, folder};
use fewstep_models::clip::{ClipTextConfig, ClipTextModel};
use fewstep_models::params::{Init, Layout};
use fewstep_models::pipeline::Family;
use fewstep_models::schedule::{
    DdimSampler, DdimSolver, DdimTimesteps, LcmSampler, LcmTimesteps, NoiseSchedule, SchedulerConfig,
    lcm_scheduler_config,
};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig};
use fewstep_models::vae::{AutoencoderKl, VaeConfig};
use fewstep_models::weights::{Component, Folder, ModelError, write_tensors};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fuzz_target!(|input: &[u8]| {
    let (kind, json) = first_line(input);
    // What is refused needs no more than a sentence.
    let _ = match kind {
        b"unet" => unet(json),
        b"vae" => vae(json),
        b"text_encoder" => text_encoder(json),
        b"scheduler" => scheduler(json),
        b"model_index" => model_index(json),
        b"weights_index" => weights_index(json),
        _ => Ok(()),
    };
});

fn config(kind: &str, json: &[u8]) -> Result<Component, ModelError> {
    let path = file(&format!("{kind}/config.json"), json);
    Component::open(path.parent().expect("it lies in a folder"))
}

fn unet(json: &[u8]) -> Result<(), ModelError> {
    let config = config("unet", json)?.parse(UNetConfig::from_json)?;
    let written = UNetConfig::from_json(&config.to_json()).expect("what is written can be read");
    assert_eq!(written.block_out_channels, config.block_out_channels);
    assert_eq!(written.num_attention_heads, config.num_attention_heads);
    let unet = UNet2DConditionModel::new(config)?;
    assert!(unet.layout().elements() > 0);
    Ok(())
}

fn vae(json: &[u8]) -> Result<(), ModelError> {
    let vae = AutoencoderKl::new(config("vae", json)?.parse(VaeConfig::from_json)?)?;
    assert!(vae.config().downscale() > 0);
    assert!(vae.layout().elements() > 0);
    Ok(())
}

fn text_encoder(json: &[u8]) -> Result<(), ModelError> {
    let encoder = ClipTextModel::new(config("text_encoder", json)?.parse(ClipTextConfig::from_json)?)?;
    assert!(encoder.layout().elements() > 0);
    Ok(())
}

/// Reads the schedule, makes each sampler of it, and the configuration of a student's scheduler.
fn scheduler(json: &[u8]) -> Result<(), ModelError> {
    let path = file("scheduler/scheduler_config.json", json);
    let config = SchedulerConfig::load(path.parent().expect("it lies in a folder"))?;
    let schedule = NoiseSchedule::new(&config)?;
    assert!(
        schedule
            .alphas_cumprod()
            .iter()
            .all(|abar| (0.0..=1.0).contains(abar))
    );
    for steps in [1, 4, 50] {
        for timesteps in [
            DdimSampler::new(&config, &DdimTimesteps::count(steps))
                .map(|s| s.timeline().timesteps().to_vec()),
            LcmSampler::new(&config, &LcmTimesteps::count(steps)).map(|s| s.timeline().timesteps().to_vec()),
        ] {
            let total = schedule.num_train_timesteps();
            assert!(timesteps.iter().flatten().all(|t| (0..total).contains(t)));
        }
    }
    let _ = DdimSolver::new(&schedule, 50, Device::Cpu);
    let student = lcm_scheduler_config(&config, 50, 10.0)?;
    let student = SchedulerConfig::from_json(&student)?;
    assert_eq!(NoiseSchedule::new(&student)?, schedule);
    Ok(())
}

fn model_index(json: &[u8]) -> Result<(), ModelError> {
    file("model/model_index.json", json);
    let model = Folder::open(&folder().join("model"))?;
    assert_eq!(Family::of(&model), Family::Sd);
    let _: Value = model.index()?;
    Ok(())
}

/// The index of weights that are split into several files, two of which are there.
fn weights_index(json: &[u8]) -> Result<(), ModelError> {
    let index = file("sharded/diffusion_pytorch_model.safetensors.index.json", json);
    let folder = index.parent().expect("it lies in a folder");
    if !folder.join("config.json").is_file() {
        file("sharded/config.json", b"{}");
        for name in ["a", "b"] {
            let tensor = Tensor::zeros([2], (Kind::Float, Device::Cpu));
            let path = folder.join(format!("{name}.safetensors"));
            write_tensors(&path, [(name, &tensor)], &Default::default())?;
        }
    }
    let ((), layout) = Layout::build(|root| {
        for name in ["a", "b"] {
            root.param(name, &[2], Init::Zeros);
        }
    });
    let weights = Component::open(folder)?.load(&layout, Kind::Float, Device::Cpu)?;
    assert!(weights.get("a").is_some() && weights.get("b").is_some());
    Ok(())
}
