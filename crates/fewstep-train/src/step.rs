//! One step of latent consistency distillation: Algorithm 1 of Luo et al., "Latent Consistency Models:
//! Synthesizing High-Resolution Images with Few-Step Inference", arXiv 2310.04378. Equation numbers are the
//! paper's as remembered; they were not checked against its text yet.
//!
//! Tensors in, tensors out: it reads no file, draws no random number, and never waits for the device. All
//! arithmetic around the networks is f32, whatever they compute in. The networks' own dtype, optimisers and
//! averages are its caller's.
//!
//! The paper's symbols: z noisy latents, c the prompt, w (omega) the guidance scale, t_{n+k} where a solver
//! step starts and t_n where it ends, f_theta the student's consistency function and f_theta- the target's,
//! Psi the ODE solver (DDIM), d the distance.

use fewstep_models::pipeline::Conditions;
use fewstep_models::schedule::{
    DdimSolver, NoiseSchedule, ScheduleError, Tables, boundary_scalings, extrapolate, guidance_embedding,
};
use libtorch_ext::{NoGrad, span};
use tch::{Device, Tensor};

use crate::config::DistillationConfig;
use crate::error::TrainError;
use crate::loss::Loss;
use crate::networks::{Branch, Networks};

/// Which solver step each sample takes, on the device, with what the host knows of it in advance.
#[derive(Debug)]
pub struct SolverSteps {
    /// n of t_n, `[B]` i64.
    index: Tensor,
    asked: Asked,
}

/// The samples for which the target network has to be asked. The others end at t_n = 0, where f(z, 0) = z.
#[derive(Debug)]
enum Asked {
    All,
    None,
    /// Their rows, `[K]` i64.
    Rows(Tensor),
}

/// What one step is given; all on the networks' device.
#[derive(Debug, Clone, Copy)]
pub struct StepInputs<'a> {
    /// Latents of the pictures, times the VAE's scaling factor: `[B, C, h, w]` f32.
    pub latents: &'a Tensor,
    /// Unit normal noise of the same shape.
    pub noise: &'a Tensor,
    /// The solver steps, from [`Objective::solver_steps`].
    pub steps: &'a SolverSteps,
    /// Guidance scales: `[B]` f32.
    pub w: &'a Tensor,
    /// The prompts, with SDXL's pooled embeddings and sizes: `[B, ..]` each.
    pub cond: &'a Conditions,
    /// The same for no prompt: SD's empty one, SDXL's zeros with the pictures' own sizes. One row may stand
    /// for the whole batch.
    pub uncond: &'a Conditions,
}

/// What one step gives; all f32.
#[derive(Debug)]
pub struct StepOutput {
    /// d(f_theta, f_theta-), a scalar with a graph to the student's weights.
    pub loss: Tensor,
    /// f_theta(z_{t_{n+k}}, w, c, t_{n+k}), `[B, C, h, w]`.
    pub model_pred: Tensor,
    /// f_theta-(x_prev, w, c, t_n), `[B, C, h, w]`.
    pub target: Tensor,
    /// The solver's estimate of z_{t_n}, `[B, C, h, w]`.
    pub x_prev: Tensor,
}

/// What does not change during a run.
#[derive(Debug)]
pub struct Objective {
    tables: Tables,
    pub(crate) solver: DdimSolver,
    loss: Loss,
    timestep_scaling: f64,
}

impl Objective {
    /// Puts the schedule and the solver's tables on `device`.
    ///
    /// # Errors
    /// More solver steps than the schedule has timesteps.
    pub fn new(
        schedule: &NoiseSchedule,
        config: &DistillationConfig,
        device: Device,
    ) -> Result<Self, ScheduleError> {
        Ok(Objective {
            tables: Tables::new(schedule, device),
            solver: DdimSolver::new(schedule, i64::from(config.num_ddim_timesteps), device)?,
            loss: Loss::from_config(config),
            timestep_scaling: config.timestep_scaling_factor,
        })
    }

    /// Puts the samples' solver steps `n` (0 to N-1), drawn on the host, on `device`.
    ///
    /// # Errors
    /// An index that is not a solver step.
    pub fn solver_steps(&self, n: &[i64], device: Device) -> Result<SolverSteps, TrainError> {
        let list = self.solver.timestep_list();
        if let Some(wrong) = n.iter().find(|&&n| n < 0 || n >= list.len() as i64) {
            let problem = format!("holds {wrong}, but solver steps are 0 to {}", list.len() - 1);
            return Err(TrainError::input("index", problem));
        }
        let ends_above_zero = |&n: &i64| n > 0 && list[n as usize - 1] > 0;
        let rows: Vec<i64> = (0..n.len())
            .filter(|&row| ends_above_zero(&n[row]))
            .map(|row| row as i64)
            .collect();
        let asked = match rows.len() {
            0 => Asked::None,
            count if count == n.len() => Asked::All,
            _ => Asked::Rows(Tensor::from_slice(&rows).to_device(device)),
        };
        Ok(SolverSteps {
            index: Tensor::from_slice(n).to_device(device),
            asked,
        })
    }

    /// The body of Algorithm 1's loop, up to the loss.
    pub fn step(&self, networks: &Networks<'_>, inputs: &StepInputs<'_>) -> StepOutput {
        let c = inputs.cond;
        let t_start = self.solver.timesteps(&inputs.steps.index);
        // z_{t_{n+k}} ~ N(alpha(t_{n+k}) z, sigma(t_{n+k})^2 I)
        let z = self.tables.add_noise(inputs.latents, inputs.noise, &t_start);
        let w_embed = networks
            .student
            .unet
            .config()
            .time_cond_proj_dim
            .map(|dim| guidance_embedding(inputs.w, dim));

        // The frozen networks come first, so that the student's activations are not held while they run.
        let (x_prev, target) = {
            let _no_grad = NoGrad::new();
            let x_prev = self.solve(networks.teacher, &z, &t_start, inputs);
            let target = self.target(networks.target, &x_prev, w_embed.as_ref(), inputs);
            (x_prev, target)
        };
        let _span = span(c"student");
        let model_pred = self.consistency(networks.student, &z, &t_start, c, w_embed.as_ref());
        StepOutput {
            loss: self.loss.between(&model_pred, &target),
            model_pred,
            target,
            x_prev,
        }
    }

    /// f(z, w, c, t) = c_skip(t) z + c_out(t) x(z, w, c, t), with x the picture that the prediction stands for
    /// (equation 9).
    fn consistency(
        &self,
        net: Branch<'_>,
        z: &Tensor,
        t: &Tensor,
        c: &Conditions,
        w: Option<&Tensor>,
    ) -> Tensor {
        let (c_skip, c_out) = boundary_scalings(t, self.timestep_scaling);
        let o = net.predict(z, t, c, w);
        c_skip * z + c_out * self.tables.x0(&o, t, z)
    }

    /// z + (1 + w) Psi(z, t_{n+k}, t_n, c) - w Psi(z, t_{n+k}, t_n, empty): one step of the augmented ODE
    /// (equations 12 and 17). DDIM is linear in the picture and the noise that it is given, so both are
    /// extrapolated first, and one solver step follows.
    ///
    /// A teacher that takes a guidance embedding gets none, as in the reference: the guidance is applied
    /// here, and a second one on top would not be the w that the student is told.
    fn solve(&self, teacher: Branch<'_>, z: &Tensor, t: &Tensor, inputs: &StepInputs<'_>) -> Tensor {
        let _span = span(c"teacher");
        let batch = z.size()[0];
        let both = inputs.cond.above(&inputs.uncond.for_batch(batch));
        let twice = |x: &Tensor| Tensor::cat(&[x, x], 0);
        let o = teacher.predict(&twice(z), &twice(t), &both, None).chunk(2, 0);
        let (o_cond, o_uncond) = (&o[0], &o[1]);

        let w = inputs.w.view([-1, 1, 1, 1]);
        let x0 = extrapolate(&self.tables.x0(o_cond, t, z), &self.tables.x0(o_uncond, t, z), &w);
        let eps = extrapolate(
            &self.tables.eps(o_cond, t, z),
            &self.tables.eps(o_uncond, t, z),
            &w,
        );
        self.solver.step(&x0, &eps, &inputs.steps.index)
    }

    /// f_theta-(x_prev, w, c, t_n) (equation 16): exactly x_prev where t_n = 0, without asking the network.
    fn target(
        &self,
        net: Branch<'_>,
        x_prev: &Tensor,
        w: Option<&Tensor>,
        inputs: &StepInputs<'_>,
    ) -> Tensor {
        let _span = span(c"target");
        let c = inputs.cond;
        let t_end = self.solver.prev_timesteps(&inputs.steps.index);
        match &inputs.steps.asked {
            Asked::None => x_prev.shallow_clone(),
            Asked::All => self.consistency(net, x_prev, &t_end, c, w),
            Asked::Rows(rows) => {
                let pick = |x: &Tensor| x.index_select(0, rows);
                let w = w.map(pick);
                let f = self.consistency(net, &pick(x_prev), &pick(&t_end), &c.rows(rows), w.as_ref());
                x_prev.index_copy(0, rows, &f)
            }
        }
    }
}
