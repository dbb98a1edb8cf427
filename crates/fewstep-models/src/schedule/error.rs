//! What can be wrong with a scheduler's configuration or with what is asked of a sampler. Which file it was
//! in, [`crate::weights::ModelError`] says.

/// An error of the noise schedule, a solver or a sampler.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The configuration is another kind of JSON.
    #[error("the scheduler's configuration is not a JSON object")]
    NotAnObject,
    /// An option has a value that fewstep does not know.
    #[error("the scheduler's `{key}` is {value}, which is not supported; {wanted}")]
    Option {
        /// The option's name.
        key: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What is supported.
        wanted: String,
    },
    /// The scheduler is of a family that has no betas.
    #[error(
        "the scheduler `{0}` does not describe a variance-preserving diffusion with betas; fewstep needs the \
         scheduler of a Stable Diffusion model (DDPM, DDIM, PNDM, Euler, DPM-Solver, UniPC or LCM)"
    )]
    Class(String),
    /// A beta outside (0, 1].
    #[error(
        "beta[{index}] of the noise schedule is {value}, but every beta must be above 0 and at most 1; check \
         `beta_start`, `beta_end` and `trained_betas`"
    )]
    Beta {
        /// The timestep.
        index: usize,
        /// The beta.
        value: f32,
    },
    /// `trained_betas` has another length than the schedule.
    #[error(
        "`trained_betas` holds {found} numbers, but `num_train_timesteps` is {wanted}; they must be equal"
    )]
    TrainedBetas {
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// Epsilon prediction on a schedule that reaches pure noise.
    #[error(
        "the noise schedule has no signal left at timestep {0} (zero terminal SNR), where a model that predicts \
         `epsilon` says nothing about the picture: the prediction would be divided by zero; use a \
         `v_prediction` model, or set `rescale_betas_zero_snr` to false if this model was trained without it"
    )]
    EpsilonWithoutSignal(usize),
    /// A number that has to lie in a range.
    #[error("{what} is {value}, but must be {wanted}")]
    Range {
        /// Which number.
        what: &'static str,
        /// The number.
        value: String,
        /// The range, and what bounds it.
        wanted: String,
    },
    /// More steps than the list of trained timesteps has places.
    #[error(
        "{steps} steps were asked for, but {original_inference_steps} original steps at strength {strength} \
         leave {available} timesteps to choose from; take at most {available} steps or a higher strength"
    )]
    TooManySteps {
        /// Steps asked for.
        steps: i64,
        /// The solver steps that the model was distilled with.
        original_inference_steps: i64,
        /// The share of the schedule that is used.
        strength: f64,
        /// How many timesteps that leaves.
        available: i64,
    },
    /// Custom timesteps that do not descend.
    #[error("custom timesteps must descend, but {next} follows {previous}")]
    NotDescending {
        /// The earlier entry.
        previous: i64,
        /// The entry after it.
        next: i64,
    },
    /// The strength leaves none of the timesteps.
    #[error("of {steps} timesteps a strength of {strength} leaves none; use at least 1/{steps}")]
    NoStepsLeft {
        /// How many were given.
        steps: usize,
        /// The share of them that is used.
        strength: f64,
    },
}
