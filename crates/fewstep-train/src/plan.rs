//! What a run will hold in memory, from configurations alone: weights and states exactly, activations not at
//! all. Nothing is loaded for it.

use fewstep_models::clip::{ClipTextConfig, ClipTextModel};
use fewstep_models::params::Layout;
use fewstep_models::pipeline::Family;
use fewstep_models::vae::{AutoencoderKl, VaeConfig};
use fewstep_models::weights::Folder;
use tch::Kind;

use crate::conditioning::{vae_component, vae_kind};
use crate::config::{Config, Method};
use crate::error::TrainError;
use crate::student::Architectures;

/// One thing that is held for the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What it is, like "student, f32 master weights".
    pub what: String,
    /// Its numbers.
    pub elements: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Everything that is held for the whole run, besides activations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The parts, largest roles first.
    pub holdings: Vec<Holding>,
    /// Trainable parameters.
    pub trainable: u64,
    /// Samples in one optimiser step.
    pub samples_per_step: u64,
    /// Optimiser steps of the run.
    pub steps: u64,
}

impl MemoryPlan {
    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.holdings.iter().map(|holding| holding.bytes).sum()
    }
}

/// Plans the run that the options describe.
///
/// # Errors
/// Options or configurations that are wrong.
pub fn plan(config: &Config) -> Result<MemoryPlan, TrainError> {
    let folder = Folder::open(&config.teacher()?)?;
    let architectures = Architectures::read(&folder.component("unet")?, config)?;
    let family = Family::of(&folder);
    let encoders: &[&str] = match family {
        Family::Sd => &["text_encoder"],
        Family::Sdxl => &["text_encoder", "text_encoder_2"],
    };
    let vae = AutoencoderKl::new(vae_component(&folder, config)?.parse(VaeConfig::from_json)?)?;

    let kind = config.run.mixed_precision.kind();
    let mut holdings = Vec::new();
    let mut hold = |what: String, layout: &Layout, kind: Kind, copies: u64| {
        let elements = copies * u64::try_from(layout.elements()).unwrap_or(0);
        let bytes = elements * kind.elt_size_in_bytes() as u64;
        holdings.push(Holding {
            what,
            elements,
            bytes,
        });
    };
    let compute = config.run.mixed_precision;
    let trained = architectures.trained();
    let what = match config.method() {
        Method::Full => ["teacher", "student", "target"],
        Method::Lora => ["UNet, for teacher and student", "adapters", "averaged adapters"],
    };
    hold(what[0].to_owned(), architectures.teacher.layout(), kind, 1);
    let roles = match config.ema_decay() {
        Some(_) => &what[1..],
        None => &what[1..2],
    };
    for role in roles {
        hold(format!("{role}, f32 masters"), trained, Kind::Float, 1);
        if kind != Kind::Float {
            hold(format!("{role}, {compute} copy"), trained, kind, 1);
        }
    }
    hold("gradients".to_owned(), trained, Kind::Float, 1);
    hold("AdamW's two moments".to_owned(), trained, Kind::Float, 2);
    for name in encoders {
        let text = ClipTextModel::new(folder.component(name)?.parse(ClipTextConfig::from_json)?)?;
        hold(name.replace('_', " "), text.layout(), kind, 1);
    }
    hold("VAE".to_owned(), vae.layout(), vae_kind(config, family), 1);
    Ok(MemoryPlan {
        holdings,
        trainable: u64::try_from(trained.elements()).unwrap_or(0),
        samples_per_step: config.samples_per_step(),
        steps: config.training_steps()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_counts_masters_copies_and_states() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/tiny-sd");
        let bytes = |precision: &str| {
            let mut config = Config::default();
            for (name, word) in [
                ("pretrained_teacher_model", model),
                ("mixed_precision", precision),
                ("max_train_steps", "5"),
            ] {
                config.set(name, &[word.to_owned()]).unwrap();
            }
            let plan = plan(&config).unwrap();
            let of = |what: &str| plan.holdings.iter().find(|h| h.what == what).map(|h| h.bytes);
            let student = plan.trainable;
            // The student has the teacher's parameters and a projection of 256 to 8.
            let number = if precision == "no" { 4 } else { 2 };
            assert_eq!(of("teacher"), Some(number * (student - 8 * 256)));
            assert_eq!(of("student, f32 masters"), Some(4 * student));
            assert_eq!(of("AdamW's two moments"), Some(8 * student));
            assert_eq!(
                of("target, bf16 copy"),
                (precision == "bf16").then_some(2 * student)
            );
            assert_eq!((plan.steps, plan.samples_per_step), (5, 16));
            plan.bytes()
        };
        for precision in ["no", "bf16"] {
            assert!(bytes(precision) > 0);
        }
    }
}
