//! Networks in training: their f32 masters with AdamW's moments and a moving average, in and out of
//! checkpoint files.
//!
//! It knows no loss: gradients come in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fewstep_models::params::{Layout, Weights};
use fewstep_models::weights::{read_tensors, write_tensors};
use libtorch_ext::lists::{self, AdamW};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

use super::recipe::Training;

/// Gradients are scaled down to this norm over all parameters.
const LARGEST_NORM: f64 = 1.0;

/// One or more networks that share an optimiser.
#[derive(Debug)]
pub(super) struct Trained {
    /// What gradients flow into.
    pub(super) masters: Vec<Weights>,
    names: Vec<String>,
    parameters: Vec<Tensor>,
    averages: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    /// AdamW's count of updates, a scalar for each parameter as its kernel wants.
    counts: Vec<Tensor>,
    /// Updates made so far.
    step: u64,
}

impl Trained {
    /// Networks at their random start, named for the checkpoint. The start is drawn on the CPU, so that it
    /// is the same on every device.
    pub(super) fn new(networks: &[(&str, &Arc<Layout>)], seed: u64, device: Device) -> Self {
        tch::manual_seed(seed as i64);
        let start = |layout| Weights::random(layout, Device::Cpu).to_device(device).trainable();
        let masters: Vec<Weights> = networks.iter().map(|(_, layout)| start(layout)).collect();
        let names = networks.iter().zip(&masters).flat_map(|((network, _), weights)| {
            weights.named().map(move |(name, _)| format!("{network}.{name}"))
        });
        let names = names.collect();
        let parameters: Vec<Tensor> = masters
            .iter()
            .flat_map(|weights| weights.tensors().iter().map(Tensor::shallow_clone))
            .collect();
        let each = |f: fn(&Tensor) -> Tensor| parameters.iter().map(f).collect();
        Trained {
            names,
            averages: each(|p| p.detach().copy()),
            exp_avgs: each(|p| p.detach().zeros_like()),
            exp_avg_sqs: each(|p| p.detach().zeros_like()),
            counts: each(|p| Tensor::zeros([], (Kind::Float, p.device()))),
            parameters,
            masters,
            step: 0,
        }
    }

    /// Updates made so far.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Updates all parameters by the gradients of `loss`, without waiting for the device.
    ///
    /// # Errors
    /// What LibTorch refused.
    pub(super) fn update(&mut self, loss: &Tensor, training: &Training) -> Result<()> {
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        let norm = lists::global_norm(&gradients)?;
        let factor = (LARGEST_NORM / (norm + 1e-6)).clamp_max(1.0);
        lists::scale(&gradients, &factor)?;
        let options = AdamW {
            lr: training.learning_rate_at(self.step),
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: training.weight_decay,
            eps: 1e-8,
        };
        lists::fused_adamw(
            &self.parameters,
            &gradients,
            &self.exp_avgs,
            &self.exp_avg_sqs,
            &self.counts,
            options,
            None,
        )?;
        lists::lerp(
            &self.averages,
            &self.parameters,
            1.0 - training.ema_decay_at(self.step),
        )?;
        self.step += 1;
        Ok(())
    }

    /// The moving averages of the networks, in their order.
    pub(super) fn averages(&self) -> Vec<Weights> {
        let mut averages = self.averages.iter();
        self.masters
            .iter()
            .map(|weights| {
                let tensors = averages.by_ref().take(weights.tensors().len());
                Weights::new(
                    weights.layout().clone(),
                    tensors.map(Tensor::shallow_clone).collect(),
                )
            })
            .collect()
    }

    /// Writes everything to a file, whole or not at all.
    ///
    /// # Errors
    /// What the operating system refused.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let step = Tensor::from(self.step as i64);
        let tensors = self.lists().into_iter().flat_map(|(list, tensors)| {
            let names = self.names.iter().map(move |name| format!("{list}.{name}"));
            names.zip(tensors)
        });
        let mut named: Vec<(String, &Tensor)> = tensors.collect();
        named.push(("step".to_owned(), &step));
        write_tensors(
            path,
            named.iter().map(|(name, t)| (name.as_str(), *t)),
            &BTreeMap::new(),
        )?;
        Ok(())
    }

    /// Takes everything back from a file.
    ///
    /// # Errors
    /// The file is missing or belongs to other networks.
    pub(super) fn restore(&mut self, path: &Path) -> Result<()> {
        let _guard = libtorch_ext::NoGrad::new();
        let stored = read_tensors(path)?;
        let find = |name: &str, like: &Tensor| {
            let tensor = stored
                .get(name)
                .with_context(|| format!("{} lacks the tensor {name}", path.display()))?;
            ensure!(
                tensor.size() == like.size(),
                "{name} in {} is {:?} and should be {:?}: the recipe has changed since",
                path.display(),
                tensor.size(),
                like.size()
            );
            Ok(tensor)
        };
        for (list, tensors) in self.lists() {
            for (name, tensor) in self.names.iter().zip(tensors) {
                let source = find(&format!("{list}.{name}"), tensor)?;
                tensor.shallow_clone().f_copy_(source)?;
            }
        }
        self.step = u64::try_from(find("step", &Tensor::from(0i64))?.int64_value(&[]))?;
        for count in &self.counts {
            let _ = count.shallow_clone().f_fill_(self.step as f64)?;
        }
        Ok(())
    }

    fn lists(&self) -> [(&'static str, &Vec<Tensor>); 4] {
        [
            ("parameter", &self.parameters),
            ("average", &self.averages),
            ("exp_avg", &self.exp_avgs),
            ("exp_avg_sq", &self.exp_avg_sqs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_models::params::Init;

    fn training() -> Training {
        Training {
            steps: 200,
            batch: 1,
            learning_rate: 0.05,
            warmup: 0,
            decay_from: 0.5,
            weight_decay: 0.0,
            ema_decay: 0.9,
        }
    }

    /// Pulls the weight towards 3.
    fn loss(trained: &Trained) -> Tensor {
        (&trained.masters[0].tensors()[0] - 3.0).square().sum(Kind::Float)
    }

    #[test]
    fn it_finds_the_minimum_and_a_checkpoint_goes_on_as_if_it_had_not_stopped() {
        let (_, layout) = Layout::build(|root| root.param("weight", &[4], Init::Normal(1.0)));
        let networks = [("net", &layout)];
        let mut whole = Trained::new(&networks, 1, Device::Cpu);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        for step in 0..200 {
            if step == 77 {
                whole.save(&path).unwrap();
            }
            whole.update(&loss(&whole), &training()).unwrap();
        }
        let distance = (&whole.averages()[0].tensors()[0] - 3.0)
            .abs()
            .max()
            .double_value(&[]);
        assert!(distance < 0.05, "{distance}");

        let mut resumed = Trained::new(&networks, 2, Device::Cpu);
        resumed.restore(&path).unwrap();
        assert_eq!(resumed.step(), 77);
        while resumed.step() < 200 {
            resumed.update(&loss(&resumed), &training()).unwrap();
        }
        let weight =
            |t: &Trained| Vec::<f64>::try_from(t.masters[0].tensors()[0].to_kind(Kind::Double)).unwrap();
        assert_eq!(weight(&resumed), weight(&whole));
    }
}
