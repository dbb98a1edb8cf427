//! What an update takes on the CPU for the parameters of a UNet: LibTorch's operators over lists, one after the other,
//! and all of it in one sweep over memory, in turns. Only the UNet's config.json is read.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use fewstep_models::params::Weights;
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig};
use fewstep_models::weights::Component;
use libtorch_ext::NoGrad;
use libtorch_ext::lists::{self, AdamW};
use libtorch_ext::moments::{Form, Moments};
use libtorch_ext::sweep::{self, Average, Part, Sweep};
use tch::{Device, Kind, Tensor};

const ADAMW: AdamW = AdamW {
    lr: 1e-6,
    beta1: 0.9,
    beta2: 0.999,
    weight_decay: 0.01,
    eps: 1e-8,
};
/// How far the average moves.
const TOWARDS: f64 = 0.05;

/// What a run in some dtype holds of its parameters.
struct Run {
    kind: Kind,
    averaged: bool,
    params: Vec<Tensor>,
    copies: Vec<Tensor>,
    averages: Vec<Tensor>,
    average_copies: Vec<Tensor>,
    /// As the backward pass gives them.
    gradients: Vec<Tensor>,
    steps: Vec<Tensor>,
    full: Vec<Moments>,
    blocks: Vec<Moments>,
}

impl Run {
    fn new(weights: &Weights, kind: Kind, averaged: bool) -> Self {
        let params: Vec<Tensor> = weights
            .deep_clone()
            .tensors()
            .iter()
            .map(Tensor::detach)
            .collect();
        let copies = |list: &[Tensor]| list.iter().map(|t| t.to_kind(kind)).collect::<Vec<_>>();
        let averages: Vec<Tensor> = params.iter().map(Tensor::copy).collect();
        Run {
            kind,
            averaged,
            copies: copies(&params),
            average_copies: copies(&averages),
            averages,
            gradients: params
                .iter()
                .map(|t| (t.randn_like() * 1e-3).to_kind(kind))
                .collect(),
            steps: params.iter().map(|_| scalar(0.0)).collect(),
            full: params.iter().map(|t| Moments::zeros(t, Form::Full)).collect(),
            blocks: params.iter().map(|t| Moments::zeros(t, form(t))).collect(),
            params,
        }
    }

    /// LibTorch's operators, one after the other.
    fn by_operators(&self) -> Result<(), Box<dyn Error>> {
        let gradients: Vec<Tensor> = match self.kind {
            Kind::Float => self.gradients.iter().map(Tensor::shallow_clone).collect(),
            _ => self.gradients.iter().map(|t| t.to_kind(Kind::Float)).collect(),
        };
        let factor = clip(&lists::global_norm(&gradients)?);
        lists::scale(&gradients, &factor)?;
        let (mut exp_avgs, mut exp_avg_sqs) = (Vec::new(), Vec::new());
        for moments in &self.full {
            if let Moments::Full { exp_avg, exp_avg_sq } = moments {
                exp_avgs.push(exp_avg.shallow_clone());
                exp_avg_sqs.push(exp_avg_sq.shallow_clone());
            }
        }
        let (params, steps) = (&self.params, &self.steps);
        lists::fused_adamw(
            params,
            &gradients,
            &exp_avgs,
            &exp_avg_sqs,
            steps,
            ADAMW,
            Some(&scalar(0.0)),
        )?;
        let mut refreshed = vec![(&self.copies, params)];
        if self.averaged {
            lists::lerp_by(&self.averages, params, &scalar(TOWARDS))?;
            refreshed.push((&self.average_copies, &self.averages));
        }
        if self.kind != Kind::Float {
            for (copies, masters) in refreshed {
                for (copy, master) in copies.iter().zip(masters) {
                    copy.shallow_clone().f_copy_(master)?;
                }
            }
        }
        Ok(())
    }

    /// One sweep, with gradients as they are or in f32.
    fn in_one_sweep(&self, moments: &[Moments], gradients: Kind) -> Result<(), Box<dyn Error>> {
        let gradients: Vec<Tensor> = self.gradients.iter().map(|t| t.to_kind(gradients)).collect();
        let factor = clip(&sweep::norm(&gradients)?);
        let mixed = self.kind != Kind::Float;
        let parts: Vec<Part> = (0..self.params.len())
            .map(|i| Part {
                param: &self.params[i],
                gradient: &gradients[i],
                step: &self.steps[i],
                moments: &moments[i],
                copy: mixed.then_some(&self.copies[i]),
                average: self.averaged.then_some(Average {
                    param: &self.averages[i],
                    copy: mixed.then_some(&self.average_copies[i]),
                }),
            })
            .collect();
        Ok(sweep::update(
            &parts,
            &Sweep {
                adamw: ADAMW,
                factor: &factor,
                skip: &scalar(0.0),
                average_weight: TOWARDS,
            },
        )?)
    }
}

/// As bitsandbytes keeps it.
fn form(param: &Tensor) -> Form {
    match param.numel() < 4096 {
        true => Form::Full,
        false => Form::Blocks,
    }
}

fn scalar(value: f64) -> Tensor {
    Tensor::full([] as [i64; 0], value, (Kind::Float, Device::Cpu))
}

/// What gradients of this norm are multiplied with.
fn clip(norm: &Tensor) -> Tensor {
    ((norm + 1e-6).reciprocal() * 1.0).clamp_max(1.0)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

#[expect(clippy::print_stdout, reason = "its result is what it prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [unet, rounds] = words.as_slice() else {
        return Err("wanted: UNET_FOLDER ROUNDS".into());
    };
    let rounds: usize = rounds.parse()?;
    let config = Component::open(Path::new(unet))?.parse(UNetConfig::from_json)?;
    let unet = UNet2DConditionModel::new(config.with_time_cond_proj_dim(Some(256)))?;
    let _no_grad = NoGrad::new();
    let weights = Weights::random(unet.layout(), Device::Cpu);
    println!(
        "{} parameters in {} tensors, {} threads; seconds, medians of {rounds}",
        unet.layout().elements(),
        weights.tensors().len(),
        tch::get_num_threads()
    );
    for kind in [Kind::Float, Kind::BFloat16] {
        for averaged in [false, true] {
            let run = Run::new(&weights, kind, averaged);
            type Way<'a> = (&'a str, Box<dyn Fn() -> Result<(), Box<dyn Error>> + 'a>);
            let mut ways: Vec<Way<'_>> = vec![
                ("operators", Box::new(|| run.by_operators())),
                ("sweep", Box::new(|| run.in_one_sweep(&run.full, Kind::Float))),
                (
                    "sweep, 8 bits",
                    Box::new(|| run.in_one_sweep(&run.blocks, Kind::Float)),
                ),
            ];
            if kind != Kind::Float {
                ways.push((
                    "sweep of its gradients",
                    Box::new(|| run.in_one_sweep(&run.full, kind)),
                ));
                ways.push((
                    "sweep of its gradients, 8 bits",
                    Box::new(|| run.in_one_sweep(&run.blocks, kind)),
                ));
            }
            let mut seconds = vec![Vec::new(); ways.len()];
            // The first round touches memory for the first time.
            for round in 0..=rounds {
                for ((_, way), seconds) in ways.iter().zip(&mut seconds) {
                    let begun = Instant::now();
                    way()?;
                    if round > 0 {
                        seconds.push(begun.elapsed().as_secs_f64());
                    }
                }
            }
            for ((name, _), seconds) in ways.iter().zip(seconds) {
                println!("{kind:?}, averaged {averaged}: {name} {:.3}", median(seconds));
            }
        }
    }
    Ok(())
}
