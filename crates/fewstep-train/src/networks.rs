//! The roles of a step, and the network that plays each. It knows no formula of the algorithm.

use fewstep_models::params::Weights;
use fewstep_models::pipeline::Conditions;
use fewstep_models::unet::{Recomputed, UNet2DConditionModel, UNetInput};
use tch::Tensor;

/// One of the roles in a step: a network and the weights it runs with.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a> {
    /// The network.
    pub unet: &'a UNet2DConditionModel,
    /// Its weights, in the dtype in which it computes.
    pub weights: &'a Weights,
    /// What of it keeps no activations where gradients are recorded.
    pub recomputed: &'a Recomputed,
}

impl Branch<'_> {
    /// The network's output, in its own dtype. `z` `[B, C, h, w]`, `t` `[B]`, `w` the guidance embedding `[B, D]`.
    pub(crate) fn predict(&self, z: &Tensor, t: &Tensor, c: &Conditions, w: Option<&Tensor>) -> Tensor {
        let input = UNetInput {
            sample: z,
            timestep: t,
            encoder_hidden_states: &c.prompt_embeds,
            timestep_cond: w,
            added: c.added(),
        };
        self.unet
            .forward_recomputing(self.weights, &input, self.recomputed)
    }
}

/// The three roles.
#[derive(Debug, Clone, Copy)]
pub struct Networks<'a> {
    /// theta, which is trained.
    pub student: Branch<'a>,
    /// The diffusion model that is distilled; frozen.
    pub teacher: Branch<'a>,
    /// theta-, the student's moving average; frozen within a step.
    pub target: Branch<'a>,
}
