//! Naming what is behind a loss or a gradient that is not finite: at which stage of a step, and for which samples.
//!
//! It looks at tensors that a step has left, once something is known to be wrong. That is rare, so that it may wait
//! for the device.

use std::fmt;

use libtorch_ext::catch;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::draw::Draws;
use crate::error::TrainError;
use crate::micro_batch::MicroBatch;
use crate::step::{Objective, StepOutput};

/// The stages of a step, in their order.
const STAGES: [&str; 5] = [
    "the VAE's latents",
    "the text encoder's embedding",
    "the teacher's solver step",
    "the target's prediction",
    "the student's prediction",
];

/// So many of the first no training changes.
const FROZEN: usize = 3;

/// So many samples are named in a sentence.
const NAMED: usize = 3;

/// What one forward and backward pass leaves, for the case that its numbers turn out to be none.
#[derive(Debug)]
pub(crate) struct Trace {
    /// What it was given.
    pub(crate) inputs: MicroBatch,
    /// The samples' numbers.
    pub(crate) samples: Vec<u64>,
    /// Shard and key of each.
    pub(crate) keys: Vec<String>,
    loss: Tensor,
    x_prev: Tensor,
    target: Tensor,
    model_pred: Tensor,
}

impl Trace {
    /// Keeps what the step gave, without its graph.
    ///
    /// # Errors
    /// There are none.
    pub(crate) fn new(
        inputs: MicroBatch,
        samples: Vec<u64>,
        keys: Vec<String>,
        output: &StepOutput,
    ) -> Result<Self, TrainError> {
        Ok(catch(|| Trace {
            inputs,
            samples,
            keys,
            loss: output.loss.detach(),
            x_prev: output.x_prev.detach(),
            target: output.target.detach(),
            model_pred: output.model_pred.detach(),
        })?)
    }

    /// The stages of a step in the order in which they are computed, `[B, ..]` each.
    fn stages(&self) -> [(&'static str, &Tensor); 5] {
        [
            (STAGES[0], &self.inputs.latents),
            (STAGES[1], &self.inputs.cond.prompt_embeds),
            (STAGES[2], &self.x_prev),
            (STAGES[3], &self.target),
            (STAGES[4], &self.model_pred),
        ]
    }

    /// Whether the loss is finite.
    pub(crate) fn is_finite(&self) -> Result<bool, TrainError> {
        Ok(catch(|| self.loss.double_value(&[]).is_finite())?)
    }
}

/// A loss or a gradient that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub struct NotFinite {
    /// What is not: the loss or the gradient's norm.
    pub what: &'static str,
    /// What it is.
    pub value: f64,
    /// The first stage of the step that is not finite, where one is; else it went wrong on the way back.
    pub stage: Option<&'static str>,
    /// The samples for which it is not; without a stage all of the update.
    pub samples: Vec<Suspect>,
}

/// A sample that may be behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// Its number in the run.
    pub number: u64,
    /// Its shard and key.
    pub key: String,
    /// The timestep at which its solver step started.
    pub timestep: i64,
    /// Its guidance scale.
    pub w: f32,
}

impl NotFinite {
    /// Looks into what an update's passes have left.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn find(
        (loss, grad_norm): (f64, f64),
        traces: &[Trace],
        draws: &Draws,
        objective: &Objective,
    ) -> Result<Self, TrainError> {
        let (what, value) = match loss.is_finite() {
            false => ("loss", loss),
            true => ("gradient norm", grad_norm),
        };
        let timesteps = objective.solver.timestep_list();
        let suspect = |trace: &Trace, row: usize| {
            let number = trace.samples[row];
            let index = draws.index(&[number])[0];
            Suspect {
                number,
                key: trace.keys[row].clone(),
                timestep: usize::try_from(index)
                    .ok()
                    .and_then(|index| timesteps.get(index).copied())
                    .unwrap_or(-1),
                w: draws.guidance_scale(&[number])[0],
            }
        };
        let stages = traces.first().map_or(0, |trace| trace.stages().len());
        for place in 0..stages {
            let mut samples = Vec::new();
            for trace in traces {
                let rows = rows_not_finite(trace.stages()[place].1)?;
                samples.extend(rows.into_iter().map(|row| suspect(trace, row)));
            }
            if !samples.is_empty() {
                return Ok(NotFinite {
                    what,
                    value,
                    stage: Some(traces[0].stages()[place].0),
                    samples,
                });
            }
        }
        let mut samples = Vec::new();
        for trace in traces {
            samples.extend((0..trace.samples.len()).map(|row| suspect(trace, row)));
        }
        Ok(NotFinite {
            what,
            value,
            stage: None,
            samples,
        })
    }

    /// What one rank found, for rank 0.
    pub(crate) fn handed_in(&self) -> Vec<u8> {
        serde_json::to_vec(&(self.stage, &self.samples)).unwrap_or_default()
    }

    /// What all ranks found: the first stage that is not finite on any of them, and its samples.
    pub(crate) fn of_all(self, handed_in: &[Vec<u8>]) -> Self {
        let place = |stage: &Option<String>| {
            let stage = stage.as_ref()?;
            STAGES.iter().position(|known| known == stage)
        };
        let found: Vec<(Option<usize>, Vec<Suspect>)> = handed_in
            .iter()
            .filter_map(|bytes| serde_json::from_slice(bytes).ok())
            .map(|(stage, samples)| (place(&stage), samples))
            .collect();
        let first = found.iter().filter_map(|(stage, _)| *stage).min();
        let of_it = found.into_iter().filter(|(stage, _)| *stage == first);
        NotFinite {
            stage: first.map(|place| STAGES[place]),
            samples: of_it.flat_map(|(_, samples)| samples).collect(),
            ..self
        }
    }

    /// What may help, as a sentence without its end: frozen networks do not care for the learning rate.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.stage {
            Some(stage) if STAGES[..FROZEN].contains(&stage) => {
                "That comes of the teacher's folder, not of the student: look into it, under fp16 give \
                 --mixed_precision bf16"
            }
            _ => "Lower --learning_rate, go on from an earlier checkpoint with --resume_from_checkpoint",
        }
    }

    /// As a line of metrics.jsonl holds it.
    pub(crate) fn to_json(&self) -> Value {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| {
                json!({"number": sample.number, "key": sample.key, "timestep": sample.timestep, "w": sample.w})
            })
            .collect();
        // JSON has no word for what is no number.
        json!({"cause": "not_finite", "what": self.what, "value": self.value.to_string(), "stage": self.stage,
            "samples": samples})
    }
}

/// The rows of `[B, ..]` that hold a number that is not finite.
fn rows_not_finite(tensor: &Tensor) -> Result<Vec<usize>, TrainError> {
    let bad = catch(|| {
        let bad = tensor.isfinite().logical_not().flatten(1, -1).any_dim(1, false);
        Vec::<i64>::try_from(bad.to_kind(Kind::Int64))
    })?
    .map_err(libtorch_ext::TorchError::from)?;
    Ok((0..bad.len()).filter(|&row| bad[row] != 0).collect())
}

/// "the loss is NaN: the VAE's latents are not finite for sample 7 (..) at timestep 259 with w 7.31".
impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its {} is {}: ", self.what, self.value)?;
        match self.stage {
            Some(stage) => write!(f, "{stage} is not finite for ")?,
            None => f.write_str("the gradients are not finite; its samples are ")?,
        }
        for (place, sample) in self.samples.iter().take(NAMED).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{sample}")?;
        }
        match self.samples.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more, which metrics.jsonl names"),
        }
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Suspect {
            number,
            key,
            timestep,
            w,
        } = self;
        write!(f, "sample {number} ({key}) at timestep {timestep} with w {w:.2}")
    }
}
