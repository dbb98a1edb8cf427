//! How `fewstep generate` samples: with which sampler, at which timesteps, how strongly guided.

use fewstep_models::pipeline::{DdimOptions, Denoiser, LcmOptions, PictureNoise, Prompts, StepDone};
use fewstep_models::schedule::{
    DdimSampler, DdimTimesteps, LcmSampler, LcmTimesteps, LcmWarning, SchedulerConfig, Steps, Timeline,
};
use fewstep_models::weights::ModelError;
use tch::Tensor;

use super::canvas::StrengthSteps;
use super::{Args, Sampler};
use crate::failure::Usage;

/// The flags of sampling.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct SamplingFlags {
    /// How to sample: lcm for a student, ddim for a teacher
    #[arg(long, value_enum, default_value = "lcm")]
    pub(super) sampler: Sampler,
    /// Sampling steps [default: 4 with lcm, 50 with ddim]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// With lcm: the timesteps to sample at, descending, instead of so many steps
    #[arg(long, value_name = "T,T,..", value_delimiter = ',', conflicts_with = "steps")]
    pub(super) timesteps: Vec<i64>,
    /// With lcm: the timesteps that the student was distilled at [default: the scheduler's, or else 50]
    #[arg(long, value_name = "N")]
    pub(super) original_inference_steps: Option<u32>,
}

impl SamplingFlags {
    /// The number of sampling steps over the whole schedule: as asked for, or the sampler's usual one.
    pub(super) fn steps(&self) -> u32 {
        match (self.timesteps.len(), self.sampler) {
            (0, Sampler::Lcm) => self.steps.unwrap_or(4),
            (0, Sampler::Ddim) => self.steps.unwrap_or(50),
            (listed, _) => u32::try_from(listed).unwrap_or(u32::MAX),
        }
    }
}

/// Checks that the flags go together, which needs no model.
///
/// # Errors
/// A flag that the sampler has no use for.
pub(super) fn check(args: &Args) -> anyhow::Result<()> {
    let flags = &args.sampling;
    let (listed, way) = (!flags.timesteps.is_empty(), args.canvas.strength_steps());
    if listed && way.is_some() {
        return Err(Usage::error(
            "--strength_steps is for --steps: of --timesteps always the last ones are done",
        ));
    }
    let for_lcm = [
        (listed, "--timesteps"),
        (
            flags.original_inference_steps.is_some(),
            "--original_inference_steps",
        ),
        (way == Some(StrengthSteps::Lcm), "--strength_steps lcm"),
    ];
    match for_lcm.iter().find(|(given, _)| *given) {
        Some((_, name)) if flags.sampler == Sampler::Ddim => {
            Err(Usage::error(format!("{name} is for --sampler lcm")))
        }
        _ => Ok(()),
    }
}

/// A sampler with its settings, and the timesteps that these come to.
#[derive(Debug)]
pub(super) struct Sampling {
    options: Options,
    timeline: Timeline,
    warnings: Vec<LcmWarning>,
}

#[derive(Debug)]
enum Options {
    Lcm(LcmOptions),
    Ddim(DdimOptions),
}

impl Sampling {
    /// What the flags ask for, with the noise schedule of a model.
    ///
    /// # Errors
    /// Timesteps that cannot be.
    pub(super) fn of(args: &Args, scheduler: &SchedulerConfig) -> anyhow::Result<Self> {
        let guidance_scale = args.guidance_scale();
        match args.sampling.sampler {
            Sampler::Lcm => {
                let timesteps = lcm_timesteps(args, scheduler)?;
                let sampler = LcmSampler::new(scheduler, &timesteps)?;
                Ok(Sampling {
                    timeline: sampler.timeline().clone(),
                    warnings: sampler.warnings().to_vec(),
                    options: Options::Lcm(LcmOptions {
                        timesteps,
                        guidance_scale,
                    }),
                })
            }
            Sampler::Ddim => {
                let timesteps = DdimTimesteps {
                    steps: i64::from(args.sampling.steps()),
                    strength: args.canvas.share(),
                };
                Ok(Sampling {
                    timeline: DdimSampler::new(scheduler, &timesteps)?.timeline().clone(),
                    warnings: Vec::new(),
                    options: Options::Ddim(DdimOptions {
                        timesteps,
                        guidance_scale,
                    }),
                })
            }
        }
    }

    /// The timesteps that are done.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What about them is seldom meant.
    pub(super) fn warnings(&self) -> &[LcmWarning] {
        &self.warnings
    }

    /// From noise, or a noisy picture, to the latents of pictures.
    ///
    /// # Errors
    /// Settings that do not fit the model, and what LibTorch refuses.
    pub(super) fn paint(
        &self,
        denoiser: &Denoiser<'_>,
        prompts: &Prompts,
        latents: &Tensor,
        noise: &mut PictureNoise,
        progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        match &self.options {
            Options::Lcm(options) => {
                let between = |_: usize, shape: &[i64]| noise.after_step(&shape[1..]);
                denoiser.lcm(prompts, options, latents, between, progress)
            }
            Options::Ddim(options) => denoiser.ddim(prompts, options, latents, progress),
        }
    }
}

fn lcm_timesteps(args: &Args, scheduler: &SchedulerConfig) -> anyhow::Result<LcmTimesteps> {
    let flags = &args.sampling;
    let (strength, way) = (args.canvas.share(), args.canvas.strength_steps());
    let original_inference_steps = flags.original_inference_steps.map(i64::from);
    let steps = i64::from(flags.steps());
    if way == Some(StrengthSteps::Last) {
        return Ok(LcmTimesteps::last_part(
            scheduler,
            steps,
            original_inference_steps,
            strength,
        )?);
    }
    Ok(LcmTimesteps {
        steps: match flags.timesteps.is_empty() {
            true => Steps::Count(steps),
            false => Steps::Custom(flags.timesteps.clone()),
        },
        original_inference_steps,
        strength,
    })
}
