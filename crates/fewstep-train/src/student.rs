//! The networks of a distillation. Full: the teacher as it is, the student made from it, and the target, the
//! student's moving average. LoRA: one frozen UNet, which is the teacher without adapters, the student with
//! them, and the target with them or with their moving average.

use std::sync::Arc;

use fewstep_models::adapters::{AdapterOptions, AdapterSet, Dropout, Targets};
use fewstep_models::params::{Init, Layout, Weights};
use fewstep_models::unet::{Piece, Recomputed, UNet2DConditionModel, UNetConfig};
use fewstep_models::weights::Component;
use tch::{Device, Kind, Tensor};

use crate::config::{CondProjInit, Config, GradientCheckpointing, Method};
use crate::draw;
use crate::error::TrainError;
use crate::networks::{Branch, Networks};
use crate::precision::Mastered;
use crate::share::Share;

/// The parameter that a student has and an ordinary teacher lacks: `[block_out_channels[0], D]`, without a
/// bias, added to the timestep's sinusoid.
pub const COND_PROJ: &str = "time_embedding.cond_proj.weight";

/// The architectures of teacher and student, and where the student's adapters go.
#[derive(Debug)]
pub struct Architectures {
    /// The teacher's, as its config.json says.
    pub teacher: UNet2DConditionModel,
    student: Student,
}

/// What is trained.
#[derive(Debug)]
enum Student {
    /// A whole UNet: the teacher's architecture, with a guidance embedding.
    Full(Box<UNet2DConditionModel>),
    /// Adapters on the teacher's.
    Lora(AdapterSet),
}

impl Architectures {
    /// Reads the teacher's configuration. A whole student's guidance embedding has the teacher's width where
    /// it has one, else `unet_time_cond_proj_dim`.
    ///
    /// # Errors
    /// A configuration that is not supported, or adapters on modules that are not there.
    pub fn read(teacher: &Component, config: &Config) -> Result<Self, TrainError> {
        let teacher_config = teacher.parse(UNetConfig::from_json)?;
        let teacher = UNet2DConditionModel::new(teacher_config.clone())?;
        let student = match config.method() {
            Method::Full => {
                let width = teacher_config
                    .time_cond_proj_dim
                    .unwrap_or(i64::from(config.model.unet_time_cond_proj_dim));
                let student_config = teacher_config.with_time_cond_proj_dim(Some(width));
                Student::Full(Box::new(UNet2DConditionModel::new(student_config)?))
            }
            Method::Lora => Student::Lora(AdapterSet::new(teacher.layout(), adapter_options(config))?),
        };
        Ok(Architectures { teacher, student })
    }

    /// The network that the student and the target run.
    pub fn unet(&self) -> &UNet2DConditionModel {
        match &self.student {
            Student::Full(unet) => unet,
            Student::Lora(_) => &self.teacher,
        }
    }

    /// The parameters that are trained.
    pub fn trained(&self) -> &Arc<Layout> {
        match &self.student {
            Student::Full(unet) => unet.layout(),
            Student::Lora(set) => set.layout(),
        }
    }

    /// The student's adapters, in a LoRA run.
    pub fn adapters(&self) -> Option<&AdapterSet> {
        match &self.student {
            Student::Full(_) => None,
            Student::Lora(set) => Some(set),
        }
    }

    /// The trained parameters at the start, f32: the teacher's weights and the guidance embedding's projection
    /// where the teacher has none, or adapters that change nothing yet.
    ///
    /// # Errors
    /// Files that do not hold the teacher's weights, or not enough memory.
    pub fn first_student(
        &self,
        component: &Component,
        config: &Config,
        device: Device,
    ) -> Result<Weights, TrainError> {
        let layout = self.trained();
        let tensors: Result<Vec<Tensor>, TrainError> = match &self.student {
            Student::Full(_) => {
                let teacher = component.load(self.teacher.layout(), Kind::Float, device)?;
                let tensors = layout.specs().iter().map(|spec| match teacher.get(&spec.name) {
                    Some(tensor) => Ok(tensor.shallow_clone()),
                    None => new_parameter(&spec.shape, config, device),
                });
                tensors.collect()
            }
            Student::Lora(_) => {
                let numbered = layout.specs().iter().zip(0u64..);
                let tensors = numbered.map(|(spec, number)| {
                    let start = draw::initial(config.run.seed, number, spec.init, &spec.shape)?;
                    Ok(start
                        .f_to_device(device)
                        .map_err(libtorch_ext::TorchError::from)?)
                });
                tensors.collect()
            }
        };
        Ok(Weights::new(layout.clone(), tensors?))
    }
}

/// What the options say of adapters.
fn adapter_options(config: &Config) -> AdapterOptions {
    let lora = &config.lora;
    AdapterOptions {
        rank: i64::from(lora.rank()),
        alpha: lora.alpha(),
        dropout: lora.dropout(),
        targets: match &lora.lora_target_modules {
            Some(list) => Targets::parse(list),
            None => Targets::default(),
        },
    }
}

/// The networks of a run with their weights.
#[derive(Debug)]
pub struct Unets {
    /// The networks.
    pub architectures: Architectures,
    teacher: Weights,
    /// theta: what is trained.
    pub student: Mastered,
    /// theta-, where it is a moving average; else the target is the student.
    pub target: Option<Mastered>,
    /// In a LoRA run, the teacher's weights with the student's and with the target's adapters.
    adapted: Option<Adapted>,
    /// What the student keeps no activations of.
    recomputed: Recomputed,
}

#[derive(Debug)]
struct Adapted {
    student: Weights,
    target: Weights,
}

impl Unets {
    /// Loads the teacher in `kind`, and makes student and target from it.
    ///
    /// # Errors
    /// A folder, file or configuration that is wrong, or not enough memory.
    pub fn from_teacher(
        component: &Component,
        config: &Config,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TrainError> {
        let architectures = Architectures::read(component, config)?;
        let student = architectures.first_student(component, config, device)?;
        Unets::new(architectures, component, config, (student, None), kind)
    }

    /// Loads the teacher in `kind`, and puts it together with the trained parameters (f32, on the device
    /// that is meant); a target that is not given starts as their copy.
    ///
    /// # Errors
    /// Files that do not hold the teacher's weights, or not enough memory.
    pub(crate) fn new(
        architectures: Architectures,
        component: &Component,
        config: &Config,
        (student, target): (Weights, Option<Weights>),
        kind: Kind,
    ) -> Result<Self, TrainError> {
        let teacher = component.load(architectures.teacher.layout(), kind, student.device())?;
        let averaged = config.ema_decay().is_some();
        libtorch_ext::catch(|| {
            let target = averaged.then(|| target.unwrap_or_else(|| student.deep_clone()));
            let target = target.map(|target| Mastered::frozen(target, kind));
            let student = Mastered::trainable(student, kind);
            let adapted = architectures.adapters().map(|set| Adapted {
                student: set.attach(&teacher, student.compute(), Dropout::On),
                target: set.attach(
                    &teacher,
                    target.as_ref().unwrap_or(&student).compute(),
                    Dropout::Off,
                ),
            });
            let pieces = architectures.unet().pieces();
            Unets {
                recomputed: recomputed(config.run.gradient_checkpointing, &pieces),
                architectures,
                teacher,
                student,
                target,
                adapted,
            }
        })
        .map_err(TrainError::from)
    }

    /// Computes these pieces of the student again in backward passes, and no others.
    pub(crate) fn recompute(&mut self, recomputed: Recomputed) {
        self.recomputed = recomputed;
    }

    /// Lets go what other ranks keep.
    pub(crate) fn keep(&mut self, share: &Share) {
        self.student.keep(share);
        if let Some(target) = &mut self.target {
            target.keep(share);
        }
    }

    /// The student's weights to paint with, which drop nothing.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn painting_student(&self) -> Result<Weights, TrainError> {
        let student = self.student.compute();
        Ok(libtorch_ext::catch(|| match self.architectures.adapters() {
            None => student.map(Tensor::shallow_clone),
            Some(set) => set.attach(&self.teacher, student, Dropout::Off),
        })?)
    }

    /// The student's and the target's network.
    pub fn unet(&self) -> &UNet2DConditionModel {
        self.architectures.unet()
    }

    /// The roles of a step.
    pub fn networks(&self) -> Networks<'_> {
        let (student, target) = match &self.adapted {
            Some(adapted) => (&adapted.student, &adapted.target),
            None => {
                let target = self.target.as_ref().unwrap_or(&self.student);
                (self.student.compute(), target.compute())
            }
        };
        let branch = |unet, weights| Branch {
            unet,
            weights,
            recomputed: &self.recomputed,
        };
        Networks {
            student: branch(self.unet(), student),
            teacher: branch(&self.architectures.teacher, &self.teacher),
            target: branch(self.unet(), target),
        }
    }
}

/// The pieces that an option names; [`crate::plan()`] chooses them for the one that names none.
pub(crate) fn recomputed(option: GradientCheckpointing, pieces: &[Piece]) -> Recomputed {
    match option {
        GradientCheckpointing::Off | GradientCheckpointing::Auto => Recomputed::none(),
        GradientCheckpointing::Pieces(count) => Recomputed::largest(pieces, count as usize),
        GradientCheckpointing::Full => Recomputed::largest(pieces, pieces.len()),
    }
}

/// The start of the projection `[C, D]`: zeros, or as torch starts a linear layer, uniform within 1/sqrt(D).
fn new_parameter(shape: &[i64], config: &Config, device: Device) -> Result<Tensor, TrainError> {
    let init = match config.model.cond_proj_init {
        CondProjInit::Zeros => Init::Zeros,
        CondProjInit::Default => {
            let inputs = shape.last().copied().unwrap_or(1);
            Init::Uniform(1.0 / (inputs as f64).sqrt())
        }
    };
    Ok(draw::initial(config.run.seed, 0, init, shape)?
        .f_to_device(device)
        .map_err(libtorch_ext::TorchError::from)?)
}
