//! Validation pictures: the same prompts and the same noise, painted by the teacher, the student and its moving average
//! with the networks that the run has in memory.
//!
//! Noise is a function of the seed and a picture's number, so that painting takes nothing from the run's own draws. Of
//! several ranks each paints its share of the pictures. This module knows no files but through `samples`, and not when
//! pictures are due.

mod samples;
mod settings;

use fewstep_data::Part;
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{Denoiser, PictureNoise, Prompts, Rgb8};
use fewstep_models::schedule::SchedulerConfig;
use fewstep_models::unet::UNet2DConditionModel;
use libtorch_ext::TorchError;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::conditioning::Conditioner;
use crate::error::TrainError;
use crate::student::Unets;
pub(crate) use samples::{latest, remove_after};
pub(crate) use settings::{Role, Settings};

/// The pictures of one network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) role: Role,
    /// Those of the first prompt, then those of the second, and so on.
    pub(crate) pictures: Vec<Rgb8>,
}

/// What rank 0 found in the run's folder, which all must know to paint alike.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The teacher's pictures.
    pub(crate) teacher: bool,
    /// Those of the step that the run goes on after.
    pub(crate) step: bool,
}

/// What a run paints, and what it has painted.
#[derive(Debug)]
pub(crate) struct Validation {
    pub(crate) settings: Settings,
    /// The step whose pictures are there, or were tried.
    pub(crate) step: Option<u64>,
    /// The teacher's pictures, on the rank that writes grids.
    teacher: Option<Column>,
    /// Whether they were tried already, or are not wanted.
    has_teacher: bool,
}

impl Validation {
    /// Looks for what an earlier process painted, where `leads`; `step` is what the run goes on after.
    pub(crate) fn new(settings: Settings, leads: bool, step: Option<u64>) -> (Self, Known) {
        let teacher = match leads && settings.teacher.is_some() {
            true => samples::read_teacher(&settings),
            false => None,
        };
        let known = Known {
            teacher: teacher.is_some(),
            step: leads && step.is_some_and(|step| samples::has(&settings, step)),
        };
        let validation = Validation {
            has_teacher: settings.teacher.is_none(),
            settings,
            step: None,
            teacher,
        };
        (validation, known)
    }

    /// Takes over what rank 0 knows of the step that the run goes on after.
    pub(crate) fn take_note(&mut self, known: Known, step: Option<u64>) {
        self.has_teacher |= known.teacher;
        if known.step {
            self.step = step;
        }
    }

    /// This rank's share of the pictures, network by network; `None` once `is_to_stop` says so.
    ///
    /// # Errors
    /// What LibTorch refuses: most often memory.
    pub(crate) fn paint(
        &mut self,
        (conditioner, unets, scheduler): (&Conditioner, &Unets, &SchedulerConfig),
        part: Part,
        is_to_stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Column>>, TrainError> {
        let roles = self.roles(unets);
        self.has_teacher = true;
        let settings = &self.settings;
        let prompts = conditioner.prompts(&settings.prompts, settings.resolution)?;
        let vae = conditioner.vae().config();
        let side = i64::from(settings.resolution) / vae.downscale();
        let painter = Painter {
            settings,
            prompts,
            shape: [vae.latent_channels, side, side],
            numbers: (0..settings.count())
                .filter(|n| n % part.ranks == part.rank)
                .collect(),
            is_to_stop,
        };
        let networks = unets.networks();
        let mut latents = Vec::new();
        for &role in &roles {
            let student = match role {
                Role::Student => Some(unets.painting_student()?),
                _ => None,
            };
            let branch = match role {
                Role::Teacher => networks.teacher,
                _ => networks.target,
            };
            let weights = student.as_ref().unwrap_or(branch.weights);
            match painter.latents(role, branch.unet, weights, scheduler)? {
                Some(painted) => latents.push((role, painted)),
                None => return Ok(None),
            }
        }
        // Only now, so that there are never both the networks' activations and the VAE's.
        let decoder = conditioner.decoder()?;
        let mut columns = Vec::new();
        for (role, painted) in latents {
            let mut pictures = Vec::new();
            for latents in painted {
                if is_to_stop() {
                    return Ok(None);
                }
                pictures.extend(decoder.pictures(&latents)?);
            }
            columns.push(Column { role, pictures });
        }
        Ok(Some(columns))
    }

    /// Puts the columns that all ranks painted together, keeps the teacher's for later grids, and writes the grid of
    /// `step`. Returns its place.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn write(&mut self, step: u64, columns: Vec<Column>) -> Result<samples::Painted, TrainError> {
        samples::make_folder(&self.settings)?;
        let mut shown = Vec::new();
        for column in columns {
            match column.role {
                Role::Teacher => {
                    samples::write_teacher(&self.settings, &column)?;
                    self.teacher = Some(column);
                }
                _ => shown.push(column),
            }
        }
        shown.splice(0..0, self.teacher.clone());
        samples::write(&self.settings, step, &shown)
    }

    /// Who paints this time.
    fn roles(&self, unets: &Unets) -> Vec<Role> {
        let teacher = (!self.has_teacher).then_some(Role::Teacher);
        let average = unets.target.is_some().then_some(Role::Average);
        teacher
            .into_iter()
            .chain([Role::Student])
            .chain(average)
            .collect()
    }
}

/// What all networks are asked alike.
struct Painter<'a> {
    settings: &'a Settings,
    prompts: Prompts,
    /// Of one picture's latents.
    shape: [i64; 3],
    /// The pictures of this rank.
    numbers: Vec<u64>,
    is_to_stop: &'a dyn Fn() -> bool,
}

impl Painter<'_> {
    /// The latents of this rank's pictures by one network, batch by batch.
    fn latents(
        &self,
        role: Role,
        unet: &UNet2DConditionModel,
        weights: &Weights,
        scheduler: &SchedulerConfig,
    ) -> Result<Option<Vec<Tensor>>, TrainError> {
        let settings = self.settings;
        let denoiser = Denoiser {
            unet,
            weights,
            scheduler: match role {
                Role::Teacher => scheduler,
                _ => &settings.lcm,
            },
            inpainting: None,
        };
        let device = weights.device();
        let mut all = Vec::new();
        for batch in self.numbers.chunks(settings.at_once) {
            if (self.is_to_stop)() {
                return Ok(None);
            }
            let rows: Vec<i64> = batch.iter().map(|number| settings.prompt_of(*number)).collect();
            let rows = Tensor::f_from_slice(&rows).and_then(|rows| rows.f_to_device(device));
            let prompts = self.prompts.rows(&rows.map_err(TorchError::from)?);
            let mut noise = PictureNoise::new(settings.seed, batch.iter().copied());
            let start = noise.initial(&self.shape).f_to_device(device);
            let start = start.map_err(TorchError::from)?;
            all.push(match (role, &settings.teacher) {
                (Role::Teacher, Some(options)) => denoiser.ddim(&prompts, options, &start, |_| ())?,
                _ => {
                    let between = |_: usize, shape: &[i64]| noise.after_step(&shape[1..]);
                    denoiser.lcm(&prompts, &settings.student, &start, between, |_| ())?
                }
            });
        }
        Ok(Some(all))
    }
}
