//! The three UNets of a full distillation: the teacher as it is, the student made from it, and the target,
//! the student's moving average.

use fewstep_models::params::Weights;
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig};
use fewstep_models::weights::Component;
use tch::{Device, Kind, Tensor};

use crate::config::{CondProjInit, Config, ConfigError};
use crate::draw;
use crate::error::TrainError;
use crate::precision::Mastered;
use crate::step::{Branch, Networks};

/// The parameter that a student has and an ordinary teacher lacks: `[block_out_channels[0], D]`, without a
/// bias, added to the timestep's sinusoid.
pub const COND_PROJ: &str = "time_embedding.cond_proj.weight";

/// The architectures of teacher and student; they differ in the guidance embedding at most.
#[derive(Debug)]
pub struct Architectures {
    /// The teacher's, as its config.json says.
    pub teacher: UNet2DConditionModel,
    /// The student's and the target's.
    pub student: UNet2DConditionModel,
}

impl Architectures {
    /// Reads the teacher's configuration. The student's guidance embedding has the teacher's width where it
    /// has one, else `unet_time_cond_proj_dim`.
    ///
    /// # Errors
    /// A configuration that is not supported, or SDXL's.
    pub fn read(teacher: &Component, config: &Config) -> Result<Self, TrainError> {
        let teacher_config = teacher.parse(UNetConfig::from_json)?;
        if teacher_config.text_time.is_some() {
            let not_yet = ConfigError::ValueNotYet {
                flag: "pretrained_teacher_model",
                value: config.teacher()?.display().to_string(),
                feature: "SDXL training",
            };
            return Err(not_yet.into());
        }
        let width = teacher_config
            .time_cond_proj_dim
            .unwrap_or(i64::from(config.model.unet_time_cond_proj_dim));
        let student_config = teacher_config.clone().with_time_cond_proj_dim(Some(width));
        Ok(Architectures {
            teacher: UNet2DConditionModel::new(teacher_config)?,
            student: UNet2DConditionModel::new(student_config)?,
        })
    }
}

/// The networks of a run with their weights.
#[derive(Debug)]
pub struct Unets {
    architectures: Architectures,
    teacher: Weights,
    /// theta.
    pub student: Mastered,
    /// theta-.
    pub target: Mastered,
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
        let layout = architectures.teacher.layout();
        let teacher = component.load(layout, kind, device)?;
        let student = student_weights(component, &architectures, config, device)?;
        Unets::assemble(architectures, teacher, student, None, kind)
    }

    /// Loads the teacher in `kind`, and student and target from the folders of a checkpoint.
    ///
    /// # Errors
    /// A folder, file or configuration that is wrong, or not enough memory.
    pub fn from_checkpoint(
        component: &Component,
        student: &Component,
        target: &Component,
        config: &Config,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TrainError> {
        let architectures = Architectures::read(component, config)?;
        let teacher = component.load(architectures.teacher.layout(), kind, device)?;
        let layout = architectures.student.layout();
        let student = student.load(layout, Kind::Float, device)?;
        let target = target.load(layout, Kind::Float, device)?;
        Unets::assemble(architectures, teacher, student, Some(target), kind)
    }

    /// Puts the parts together; without a target, it starts as a copy of the student.
    pub(crate) fn assemble(
        architectures: Architectures,
        teacher: Weights,
        student: Weights,
        target: Option<Weights>,
        kind: Kind,
    ) -> Result<Self, TrainError> {
        libtorch_ext::catch(|| {
            let target = target.unwrap_or_else(|| student.deep_clone());
            Unets {
                architectures,
                teacher,
                student: Mastered::trainable(student, kind),
                target: Mastered::frozen(target, kind),
            }
        })
        .map_err(TrainError::from)
    }

    /// The student's and the target's network.
    pub fn unet(&self) -> &UNet2DConditionModel {
        &self.architectures.student
    }

    /// The roles of a step.
    pub fn networks(&self) -> Networks<'_> {
        Networks {
            student: Branch {
                unet: &self.architectures.student,
                weights: self.student.compute(),
            },
            teacher: Branch {
                unet: &self.architectures.teacher,
                weights: &self.teacher,
            },
            target: Branch {
                unet: &self.architectures.student,
                weights: self.target.compute(),
            },
        }
    }
}

/// The student at the start: the teacher's weights in f32, and the guidance embedding's projection where the
/// teacher has none.
pub(crate) fn student_weights(
    component: &Component,
    architectures: &Architectures,
    config: &Config,
    device: Device,
) -> Result<Weights, TrainError> {
    let teacher = component.load(architectures.teacher.layout(), Kind::Float, device)?;
    let layout = architectures.student.layout();
    let tensors = layout.specs().iter().map(|spec| match teacher.get(&spec.name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => new_parameter(&spec.shape, config, device),
    });
    let tensors: Vec<Tensor> = tensors.collect::<Result<_, TrainError>>()?;
    Ok(Weights::new(layout.clone(), tensors))
}

/// The start of the projection `[C, D]`: zeros, or as torch starts a linear layer, uniform within 1/sqrt(D).
fn new_parameter(shape: &[i64], config: &Config, device: Device) -> Result<Tensor, TrainError> {
    let tensor = match config.model.cond_proj_init {
        CondProjInit::Zeros => {
            Tensor::f_zeros(shape, (Kind::Float, device)).map_err(libtorch_ext::TorchError::from)?
        }
        CondProjInit::Default => {
            let inputs = shape.last().copied().unwrap_or(1);
            let bound = 1.0 / (inputs as f64).sqrt();
            draw::initial_uniform(config.run.seed, bound, shape)?
                .f_to_device(device)
                .map_err(libtorch_ext::TorchError::from)?
        }
    };
    Ok(tensor)
}
