//! LoRA files on a UNet, against the output that the reference has with the same adapters (spec F22).

use fewstep_models::adapters::{Stored, attach, fuse};
use fewstep_models::lora::LoraFile;
use fewstep_models::params::Weights;
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig, UNetInput};
use fewstep_models::weights::Component;
use libtorch_ext::NoGrad;
use tch::{Device, Kind};

use crate::common::{assert_near, fixture, golden};

/// The adapters of a file, as they are attached.
fn stored(file: &LoraFile) -> impl Iterator<Item = (&str, Stored<'_>)> {
    file.unet.iter().map(|(path, module)| {
        let (a, b, alpha) = (&module.a, &module.b, module.alpha);
        (path.as_str(), Stored { a, b, alpha })
    })
}

#[test]
fn every_form_that_states_its_alphas_gives_the_output_of_the_reference() {
    let folder = Component::open(&fixture("models/tiny-sd/unet")).unwrap();
    let unet = UNet2DConditionModel::new(folder.parse(UNetConfig::from_json).unwrap()).unwrap();
    let weights = folder.load(unet.layout(), Kind::Float, Device::Cpu).unwrap();
    let golden = golden("unet-lora");
    let _guard = NoGrad::new();
    let forward = |weights: &Weights| {
        let input = UNetInput {
            sample: &golden["in.sample"],
            timestep: &golden["in.timestep"],
            encoder_hidden_states: &golden["in.encoder_hidden_states"],
            timestep_cond: None,
            added: None,
        };
        unet.forward(weights, &input)
    };
    let without = forward(&weights);
    assert_near("without", &without, &golden["out.sample_without"], 1e-5);
    // The adapters matter a thousand times more than the tolerance.
    let change = (&golden["out.sample"] - &without).abs().max().double_value(&[]);
    assert!(change > 1e-2 * without.abs().max().double_value(&[]), "{change}");
    for name in [
        "diffusers.safetensors",
        "kohya.safetensors",
        "wds",
        "wds/unet_lora",
    ] {
        let file = LoraFile::read(&fixture("lora").join(name)).unwrap();
        let attached = attach(&weights, stored(&file), 1.0).unwrap();
        assert_near(name, &forward(&attached), &golden["out.sample"], 1e-5);
        let fused = fuse(&weights, stored(&file), 1.0).unwrap();
        assert_near(name, &forward(&fused), &golden["out.sample"], 1e-5);
    }
}
