//! Adapters on single modules and on a UNet, one and two, attached and fused, against what the reference has with
//! the same adapters (spec F22).

use std::collections::BTreeMap;

use fewstep_models::adapters::{Stored, attach, fuse};
use fewstep_models::layers::{Bias, Conv2d, Linear};
use fewstep_models::lora::LoraFile;
use fewstep_models::params::{Layout, Weights};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig, UNetInput};
use fewstep_models::weights::Component;
use libtorch_ext::NoGrad;
use tch::{Device, Kind, Tensor};

use crate::common::{assert_near, fixture, golden};

/// The adapters of a file, as they are attached.
fn stored(file: &LoraFile) -> impl Iterator<Item = (&str, Stored<'_>)> {
    file.unet.iter().map(|(path, module)| {
        let (a, b, alpha) = (&module.a, &module.b, module.alpha);
        (path.as_str(), Stored { a, b, alpha })
    })
}

/// How much the two adapters count where both are there.
const WEIGHTS: [f64; 2] = [0.7, -0.4];

/// The tiny UNet with its golden inputs.
struct Tiny {
    unet: UNet2DConditionModel,
    weights: Weights,
    golden: BTreeMap<String, Tensor>,
}

impl Tiny {
    fn load() -> Self {
        let folder = Component::open(&fixture("models/tiny-sd/unet")).unwrap();
        let unet = UNet2DConditionModel::new(folder.parse(UNetConfig::from_json).unwrap()).unwrap();
        Tiny {
            weights: folder.load(unet.layout(), Kind::Float, Device::Cpu).unwrap(),
            unet,
            golden: golden("unet-lora"),
        }
    }

    fn forward(&self, weights: &Weights) -> Tensor {
        let _guard = NoGrad::new();
        let input = UNetInput {
            sample: &self.golden["in.sample"],
            timestep: &self.golden["in.timestep"],
            encoder_hidden_states: &self.golden["in.encoder_hidden_states"],
            timestep_cond: None,
            added: None,
        };
        self.unet.forward(weights, &input)
    }
}

#[test]
fn every_form_that_states_its_alphas_gives_the_output_of_the_reference() {
    let tiny = Tiny::load();
    let (weights, golden) = (&tiny.weights, &tiny.golden);
    let without = tiny.forward(weights);
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
        let attached = attach(weights, stored(&file), 1.0).unwrap();
        assert_near(name, &tiny.forward(&attached), &golden["out.sample"], 1e-5);
        let fused = fuse(weights, stored(&file), 1.0).unwrap();
        assert_near(name, &tiny.forward(&fused), &golden["out.sample"], 1e-5);
    }
}

#[test]
fn two_weighted_files_give_the_output_of_the_reference() {
    let tiny = Tiny::load();
    let files = ["diffusers.safetensors", "second.safetensors"]
        .map(|name| LoraFile::read(&fixture("lora").join(name)).unwrap());
    let both = |put: fn(&Weights, &LoraFile, f64) -> Weights| {
        let one = put(&tiny.weights, &files[0], WEIGHTS[0]);
        tiny.forward(&put(&one, &files[1], WEIGHTS[1]))
    };
    let wanted = &tiny.golden["out.sample_two"];
    let attached = both(|weights, file, weight| attach(weights, stored(file), weight).unwrap());
    assert_near("attached", &attached, wanted, 1e-5);
    let fused = both(|weights, file, weight| fuse(weights, stored(file), weight).unwrap());
    assert_near("fused", &fused, &tiny.golden["out.sample_two_fused"], 1e-5);
    assert_near("fused", &fused, wanted, 1e-5);
}

/// A module of each kind that can have an adapter.
#[derive(Debug)]
enum Module {
    Linear(Linear),
    Conv(Conv2d),
}

/// A module of one kind, under a name.
fn module(kind: &str) -> (Module, std::sync::Arc<Layout>) {
    let conv = |path: &fewstep_models::params::Path<'_>, kernel, stride| {
        let padding = kernel / 2;
        Module::Conv(Conv2d::new(path, 4, 6, kernel, stride, padding, Bias::Yes))
    };
    Layout::build(|root| match (kind, root.sub(kind)) {
        ("linear", path) => Module::Linear(Linear::new(&path, 5, 7, Bias::Yes)),
        ("conv1x1", path) => conv(&path, 1, 1),
        ("conv3x3", path) => conv(&path, 3, 1),
        (_, path) => conv(&path, 3, 2),
    })
}

#[test]
fn each_kind_of_module_does_what_pefts_does() {
    let golden = golden("adapters");
    for kind in ["linear", "conv1x1", "conv3x3", "stride2"] {
        let (module, layout) = module(kind);
        let given = |name: &str| &golden[&format!("in.{kind}.{name}")];
        let wanted = |name: &str| &golden[&format!("out.{kind}.{name}")];
        let parameters = layout
            .specs()
            .iter()
            .map(|spec| golden[&format!("in.{}", spec.name)].shallow_clone());
        let weights = Weights::new(layout.clone(), parameters.collect());
        let forward = |weights: &Weights| match &module {
            Module::Linear(linear) => linear.forward(weights, given("x")),
            Module::Conv(conv) => conv.forward(weights, given("x")),
        };
        let adapter = |name: &str, alpha| {
            let (a, b) = (given(&format!("{name}.a")), given(&format!("{name}.b")));
            [(kind, Stored { a, b, alpha })]
        };
        // Ranks are 2 and 3.
        let (first, second) = (adapter("first", 5.0), adapter("second", 1.5));
        let one = attach(&weights, first, 1.0).unwrap();
        assert_near(kind, &forward(&one), wanted("one"), 1e-6);
        let two = attach(&attach(&weights, first, WEIGHTS[0]).unwrap(), second, WEIGHTS[1]).unwrap();
        assert_near(kind, &forward(&two), wanted("two"), 1e-6);

        let weight = format!("{kind}.weight");
        let merged = fuse(&fuse(&weights, first, WEIGHTS[0]).unwrap(), second, WEIGHTS[1]).unwrap();
        assert_near(kind, merged.get(&weight).unwrap(), wanted("merged_weight"), 1e-6);
        assert_near(kind, &forward(&merged), wanted("two_merged"), 1e-6);
        let back = fuse(&fuse(&merged, second, -WEIGHTS[1]).unwrap(), first, -WEIGHTS[0]).unwrap();
        assert_near(kind, back.get(&weight).unwrap(), wanted("unmerged_weight"), 1e-6);
        assert_near(kind, back.get(&weight).unwrap(), given("weight"), 1e-6);
    }
}
