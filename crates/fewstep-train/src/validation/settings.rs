//! What the options say of validation pictures, worked out once.

use std::path::PathBuf;

use fewstep_models::pipeline::{DdimOptions, LcmOptions};
use fewstep_models::schedule::{
    DdimSampler, DdimTimesteps, LcmSampler, LcmTimesteps, SchedulerConfig, Steps, lcm_scheduler_config,
};
use serde_json::{Value, json};

use crate::config::{Config, Method};
use crate::error::TrainError;

/// Who paints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Teacher,
    Student,
    /// The student's moving average.
    Average,
}

impl Role {
    /// As it is called where pictures are described.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Teacher => "teacher",
            Role::Student => "student",
            Role::Average => "moving average",
        }
    }
}

/// The settings of a run's validation pictures.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where they go.
    pub(crate) folder: PathBuf,
    pub(crate) every: u64,
    pub(crate) prompts: Vec<String>,
    /// Pictures of each prompt.
    pub(crate) each: u32,
    pub(crate) seed: u64,
    /// The pictures' sides, in pixels.
    pub(crate) resolution: u32,
    /// How the student and its average paint, with the scheduler of the run's results.
    pub(crate) student: LcmOptions,
    pub(crate) lcm: SchedulerConfig,
    /// How the teacher does, if it does.
    pub(crate) teacher: Option<DdimOptions>,
    /// Pictures that a UNet paints at once.
    pub(crate) at_once: usize,
    /// Whose pictures they are, for their notes.
    model: String,
    precision: String,
}

impl Settings {
    /// Those that the options describe; none where the run paints nothing.
    ///
    /// # Errors
    /// Prompts that cannot be read, or steps that the teacher's schedule has not.
    pub(crate) fn new(config: &Config, scheduler: &SchedulerConfig) -> Result<Option<Self>, TrainError> {
        if !config.validates() {
            return Ok(None);
        }
        let options = &config.validation;
        let guidance_scale = config.validation_guidance_scale();
        let solver_steps = i64::from(config.distillation.num_ddim_timesteps);
        let scaling = config.distillation.timestep_scaling_factor;
        let lcm = SchedulerConfig::from_json(&lcm_scheduler_config(scheduler, solver_steps, scaling)?)?;
        let student = LcmOptions {
            timesteps: LcmTimesteps {
                steps: Steps::Count(i64::from(options.validation_inference_steps)),
                original_inference_steps: Some(solver_steps),
                strength: 1.0,
            },
            guidance_scale: match config.method() {
                Method::Full => guidance_scale,
                Method::Lora => 1.0,
            },
        };
        let teacher = (options.validation_teacher_steps > 0).then(|| DdimOptions {
            timesteps: DdimTimesteps::count(i64::from(options.validation_teacher_steps)),
            guidance_scale,
        });
        // What is wrong with them is to be known before anything is trained.
        LcmSampler::new(&lcm, &student.timesteps)?;
        if let Some(teacher) = &teacher {
            DdimSampler::new(scheduler, &teacher.timesteps)?;
        }
        Ok(Some(Settings {
            folder: config.run.output_dir.join("samples"),
            every: options.validation_steps,
            prompts: config.validation_prompts()?,
            each: options.num_validation_images,
            seed: config.validation_seed(),
            resolution: config.resolution(),
            student,
            lcm,
            teacher,
            at_once: config.data.train_batch_size as usize,
            model: config.teacher()?.display().to_string(),
            precision: config.run.mixed_precision.to_string(),
        }))
    }

    /// The number of pictures from each network.
    pub(crate) fn count(&self) -> u64 {
        self.prompts.len() as u64 * u64::from(self.each)
    }

    /// The prompt of a picture, by its number.
    pub(crate) fn prompt_of(&self, number: u64) -> i64 {
        (number / u64::from(self.each)) as i64
    }

    /// What the pictures of `roles` were painted with, for the notes in their file.
    pub(crate) fn notes(&self, step: Option<u64>, roles: &[Role]) -> Value {
        let teacher = self.teacher.filter(|_| roles.contains(&Role::Teacher));
        let student = roles.iter().any(|role| *role != Role::Teacher);
        json!({
            "teacher": self.model,
            "step": step,
            "columns": roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
            "prompts": self.prompts,
            "num_images": self.each,
            "seed": self.seed,
            "resolution": self.resolution,
            "mixed_precision": self.precision,
            "teacher_steps": teacher.map(|teacher| teacher.timesteps.steps),
            "teacher_guidance_scale": teacher.map(|teacher| teacher.guidance_scale),
            "steps": student.then_some(match &self.student.timesteps.steps {
                Steps::Count(steps) => *steps,
                Steps::Custom(steps) => steps.len() as i64,
            }),
            "guidance_scale": student.then_some(self.student.guidance_scale),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}
