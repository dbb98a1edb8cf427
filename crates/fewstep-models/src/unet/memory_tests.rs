//! What a rehearsal says of a UNet's memory, against a meter on the real thing.

use std::path::{Path, PathBuf};

use libtorch_ext::rehearsal::hollow;
use libtorch_ext::{Meter, NoGrad};
use tch::{Device, Kind, Tensor};

use super::{AddedConditions, Recomputed, UNet2DConditionModel, UNetConfig, UNetInput};
use crate::adapters::{AdapterOptions, AdapterSet, Dropout, Targets};
use crate::params::{Layout, Weights};
use crate::weights::Component;

/// What tensors are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stuff {
    Real,
    Hollow,
}

impl Stuff {
    fn meter(self) -> Meter {
        match self {
            Stuff::Real => Meter::start(Device::Cpu).unwrap(),
            Stuff::Hollow => Meter::of_rehearsal().unwrap(),
        }
    }

    fn tensor(self, shape: &[i64], kind: Kind) -> Tensor {
        match self {
            Stuff::Real => Tensor::zeros(shape, (kind, Device::Cpu)),
            Stuff::Hollow => hollow(shape, kind).unwrap(),
        }
    }

    fn weights(self, layout: &std::sync::Arc<Layout>, kind: Kind) -> Weights {
        let shapes = layout.specs().iter();
        Weights::new(
            layout.clone(),
            shapes.map(|spec| self.tensor(&spec.shape, kind)).collect(),
        )
    }
}

/// A case: which of its pieces are computed again counts from the largest.
#[derive(Debug, Clone, Copy)]
struct Case {
    model: &'static str,
    kind: Kind,
    lora: bool,
    dropout: f64,
    /// Height and width of the latents.
    size: [i64; 2],
    recomputed: usize,
}

/// Bytes: what is kept after the way forward, the most on the way back, and the most where nothing is kept.
#[derive(Debug)]
struct Took {
    kept: i64,
    back: i64,
    frozen: i64,
}

const BATCH: i64 = 2;
const TOKENS: i64 = 11;

fn unet(model: &str) -> UNet2DConditionModel {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    let folder = Component::open(&folder.join(model).join("unet")).unwrap();
    let config = folder.parse(UNetConfig::from_json).unwrap();
    UNet2DConditionModel::new(config.with_time_cond_proj_dim(Some(6))).unwrap()
}

fn take(case: Case, stuff: Stuff) -> Took {
    let unet = unet(case.model);
    let config = unet.config();
    let meter = stuff.meter();
    let weights = stuff.weights(unet.layout(), case.kind);
    let options = AdapterOptions {
        rank: 4,
        alpha: 8.0,
        dropout: case.dropout,
        targets: Targets::default(),
    };
    let set = AdapterSet::new(unet.layout(), options).unwrap();
    let (student, trained) = match case.lora {
        true => {
            let adapters = stuff.weights(set.layout(), case.kind).trainable();
            (set.attach(&weights, &adapters, Dropout::On), adapters)
        }
        false => (weights.trainable(), weights.trainable()),
    };
    let trained = match case.lora {
        true => trained,
        false => student.map(Tensor::shallow_clone),
    };

    let of = |shape: &[i64]| stuff.tensor(shape, Kind::Float);
    let sample = of(&[BATCH, config.in_channels, case.size[0], case.size[1]]);
    let context = of(&[BATCH, TOKENS, config.context_dim().unwrap()]);
    let cond = of(&[BATCH, 6]);
    let timestep = Tensor::zeros([BATCH], (Kind::Int64, Device::Cpu));
    let ids = Tensor::zeros([BATCH, 6], (Kind::Float, Device::Cpu));
    let pooled = config
        .text_time
        .map(|text_time| of(&[BATCH, text_time.input_dim - 6 * text_time.time_embed_dim]));
    let input = UNetInput {
        sample: &sample,
        timestep: &timestep,
        encoder_hidden_states: &context,
        timestep_cond: Some(&cond),
        added: pooled.as_ref().map(|text_embeds| AddedConditions {
            text_embeds,
            time_ids: &ids,
        }),
    };

    let before = meter.current().unwrap();
    let since = |bytes: i64| bytes - before;
    meter.reset_peak().unwrap();
    {
        let _no_grad = NoGrad::new();
        let _output = unet.forward(&student, &input);
    }
    let frozen = since(meter.peak().unwrap());
    assert_eq!(meter.current().unwrap(), before);
    let recomputed = Recomputed::largest(&unet.pieces(), case.recomputed);
    let output = unet.forward_recomputing(&student, &input, &recomputed);
    let kept = since(meter.current().unwrap());
    let loss = output.to_kind(Kind::Float).sum(Kind::Float);
    meter.reset_peak().unwrap();
    let _gradients = Tensor::run_backward(&[loss], trained.tensors(), false, false);
    Took {
        kept,
        back: since(meter.peak().unwrap()),
        frozen,
    }
}

#[test]
fn a_rehearsal_knows_what_a_unet_takes() {
    tch::set_num_threads(1);
    let case = Case {
        model: "tiny-sd",
        kind: Kind::Float,
        lora: false,
        dropout: 0.0,
        size: [32, 32],
        recomputed: 0,
    };
    let cases = [
        case,
        Case {
            recomputed: 4,
            ..case
        },
        Case {
            recomputed: 99,
            ..case
        },
        Case {
            kind: Kind::BFloat16,
            size: [40, 24],
            ..case
        },
        Case {
            model: "tiny-sd2",
            lora: true,
            ..case
        },
        Case {
            model: "tiny-sd2",
            lora: true,
            recomputed: 99,
            kind: Kind::BFloat16,
            ..case
        },
        Case {
            model: "tiny-sd2",
            size: [29, 33],
            ..case
        },
        Case {
            model: "tiny-sdxl",
            ..case
        },
        Case {
            model: "tiny-sdxl",
            lora: true,
            dropout: 0.1,
            recomputed: 3,
            ..case
        },
    ];
    for case in cases {
        let (real, hollow) = (take(case, Stuff::Real), take(case, Stuff::Hollow));
        let close = |what: &str, share: f64, hollow: i64, real: i64| {
            // A piece that is computed again keeps a generator's state, which is no hollow tensor.
            let slack = share * real as f64 + 5056.0 * case.recomputed.min(20) as f64;
            let off = (hollow - real).abs() as f64;
            assert!(off <= slack, "{case:?}: {what} {hollow}, really {real}");
        };
        close("keeps", 1e-3, hollow.kept, real.kept);
        // Kernels have buffers beside the tensors, of up to a MB: much for models as small as these.
        close("backward takes", 0.05, hollow.back, real.back);
        close("without a graph it takes", 0.15, hollow.frozen, real.frozen);
    }
}
