//! One training step from given tensors, with everything that it computed: for parity checks and for finding
//! the step at which numbers went wrong.

use std::collections::BTreeMap;

use fewstep_models::params::Weights;
use fewstep_models::pipeline::{AddedTensors, Conditions, Family};
use fewstep_models::schedule::{NoiseSchedule, SchedulerConfig};
use fewstep_models::unet::UNetInput;
use fewstep_models::weights::Folder;
use libtorch_ext::{NoGrad, TorchError, catch};
use tch::{Device, Kind, Tensor};

use crate::config::{Config, GradientCheckpointing, MixedPrecision};
use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::precision::LossScaler;
use crate::step::{Objective, StepInputs};
use crate::student::{Architectures, Unets};
use crate::{device, draw, plan};

/// Begins the names of tensors that overwrite the student's parameters.
pub(crate) const INIT: &str = "init.";
/// Begins the names of tensors that overwrite the target's.
pub(crate) const INIT_TARGET: &str = "init_target.";

/// Runs one step of `config` on named tensors.
///
/// In: latents `[B, C, h, w]` (scaled), noise (same), index `[B]` i64, w `[B]`, prompt_embeds `[B, S, D]`,
/// and `init.PARAMETER` for every trained parameter that is to be overwritten (of adapters,
/// `MODULE.lora_A.weight` and `MODULE.lora_B.weight`); the target starts as a copy of that student, less what
/// `init_target.PARAMETER` overwrites. SD also takes uncond_prompt_embeds `[B or 1, S, D]`; SDXL text_embeds
/// `[B, P]` and time_ids `[B, 6]`, and its unconditional branch is told zeros. Out, all f32 on the CPU: loss,
/// model_pred, target, x_prev, and `grad.PARAMETER` for every trained parameter, before clipping.
///
/// # Errors
/// Wrong options or models; a tensor that is missing, of another shape or dtype, or not known.
pub fn step(
    config: &Config,
    inputs: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, TrainError> {
    config.validate_step()?;
    let device = device::resolve(&config.run)?;
    let folder = Folder::open(&config.teacher()?)?;
    let mut given = Given {
        tensors: inputs,
        device,
    };
    let mut unets = unets(config, &folder, &mut given)?;
    if config.run.gradient_checkpointing == GradientCheckpointing::Auto
        // A folder without text encoder and VAE is enough for a step, and not for the plan of a run.
        && let Ok((_, recomputed)) = plan::choose(config, device, plan::capacity(device, config))
    {
        unets.recompute(recomputed);
    }
    let schedule = NoiseSchedule::new(&SchedulerConfig::load(&folder.part("scheduler")?)?)?;
    let objective = Objective::new(&schedule, &config.distillation, device)?;
    let tensors = given.step_tensors(&unets)?;
    given.nothing_left()?;

    let steps = objective.solver_steps(&tensors.index, device)?;
    let inputs = StepInputs {
        latents: &tensors.latents,
        noise: &tensors.noise,
        steps: &steps,
        w: &tensors.w,
        cond: &tensors.cond,
        uncond: &tensors.uncond,
    };
    let output = catch(|| {
        draw::seed_dropout(config, 0);
        objective.step(&unets.networks(), &inputs)
    })?;
    // fp16 gradients are taken as a run's first step takes them: of the scaled loss.
    let scale = match config.run.mixed_precision {
        MixedPrecision::Fp16 => LossScaler::default().scale(),
        MixedPrecision::No | MixedPrecision::Bf16 => 1.0,
    };
    let mut gradients = Gradients::default();
    gradients.add(&catch(|| &output.loss * scale)?, unets.student.compute())?;
    let gradients = gradients.widened()?;
    gradients.scale(&Tensor::from((1.0 / scale) as f32).to_device(device))?;

    let mut out: BTreeMap<String, Tensor> = unets
        .student
        .compute()
        .named()
        .zip(gradients.tensors())
        .map(|((name, _), gradient)| (format!("grad.{name}"), gradient.shallow_clone()))
        .collect();
    for (name, tensor) in [
        ("loss", output.loss),
        ("model_pred", output.model_pred),
        ("target", output.target),
        ("x_prev", output.x_prev),
    ] {
        out.insert(name.to_owned(), tensor);
    }
    let to_host = |t: Tensor| t.detach().to_kind(Kind::Float).to_device(Device::Cpu);
    Ok(catch(|| {
        out.into_iter().map(|(name, t)| (name, to_host(t))).collect()
    })?)
}

/// The networks, with the student's parameters overwritten where `init.PARAMETER` says so.
fn unets(config: &Config, folder: &Folder, given: &mut Given) -> Result<Unets, TrainError> {
    let kind = config.run.mixed_precision.kind();
    let component = folder.component("unet")?;
    let architectures = Architectures::read(&component, config)?;
    let student = architectures.first_student(&component, config, given.device)?;
    given.overwrite(INIT, &student)?;
    let target = match config.ema_decay() {
        Some(_) => Some(catch(|| student.deep_clone())?),
        None => None,
    };
    if let Some(target) = &target {
        given.overwrite(INIT_TARGET, target)?;
    }
    Unets::new(architectures, &component, config, (student, target), kind)
}

/// The tensors of a step, checked.
struct StepTensors {
    latents: Tensor,
    noise: Tensor,
    index: Vec<i64>,
    w: Tensor,
    cond: Conditions,
    uncond: Conditions,
}

/// The tensors that were given and not yet taken.
struct Given {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
}

impl Given {
    fn take(&mut self, name: &str) -> Result<Tensor, TrainError> {
        self.tensors
            .remove(name)
            .ok_or_else(|| TrainError::input(name, "is missing"))
    }

    /// A floating-point tensor as f32 on the device.
    fn float(&mut self, name: &str) -> Result<Tensor, TrainError> {
        let tensor = self.take(name)?;
        if !tensor.is_floating_point() {
            let problem = format!("is {:?}, but must be floating point", tensor.kind());
            return Err(TrainError::input(name, problem));
        }
        Ok(tensor
            .f_to_device(self.device)
            .and_then(|tensor| tensor.f_to_kind(Kind::Float))
            .map_err(TorchError::from)?)
    }

    fn step_tensors(&mut self, unets: &Unets) -> Result<StepTensors, TrainError> {
        let latents = self.float("latents")?;
        let noise = self.float("noise")?;
        let index = self.take("index")?;
        let w = self.float("w")?;
        let family = match unets.unet().config().text_time {
            None => Family::Sd,
            Some(_) => Family::Sdxl,
        };
        let (cond, uncond) = self.conditions(family)?;

        let batch = latents.size().first().copied().unwrap_or(0);
        expect("noise", &noise, &latents.size())?;
        expect("w", &w, &[batch])?;
        expect("index", &index, &[batch])?;
        if index.kind() != Kind::Int64 {
            let problem = format!("is {:?}, but must be Int64", index.kind());
            return Err(TrainError::input("index", problem));
        }
        let timestep = Tensor::zeros([batch], (Kind::Int64, self.device));
        unets.unet().check_input(&UNetInput {
            sample: &latents,
            timestep: &timestep,
            encoder_hidden_states: &cond.prompt_embeds,
            timestep_cond: None,
            added: cond.added(),
        })?;
        let mut of_one = cond.prompt_embeds.size();
        of_one[0] = 1;
        if uncond.prompt_embeds.size() != of_one {
            let wanted = cond.prompt_embeds.size();
            expect("uncond_prompt_embeds", &uncond.prompt_embeds, &wanted)?;
        }
        Ok(StepTensors {
            latents,
            noise,
            index: Vec::try_from(&index).map_err(TorchError::from)?,
            w,
            cond,
            uncond,
        })
    }

    /// What the UNet is told, and what its unconditional branch.
    fn conditions(&mut self, family: Family) -> Result<(Conditions, Conditions), TrainError> {
        let prompt_embeds = self.float("prompt_embeds")?;
        match family {
            Family::Sd => {
                let uncond = self.float("uncond_prompt_embeds")?;
                Ok((prompt_embeds.into(), uncond.into()))
            }
            Family::Sdxl => {
                let (text_embeds, time_ids) = (self.float("text_embeds")?, self.float("time_ids")?);
                let with = |prompt_embeds: Tensor, text_embeds: Tensor| Conditions {
                    prompt_embeds,
                    added: Some(AddedTensors {
                        text_embeds,
                        time_ids: time_ids.shallow_clone(),
                    }),
                };
                let zeros = with(prompt_embeds.zeros_like(), text_embeds.zeros_like());
                Ok((with(prompt_embeds, text_embeds), zeros))
            }
        }
    }

    /// Takes every tensor whose name is a parameter's after `prefix`, and writes it over that parameter.
    fn overwrite(&mut self, prefix: &str, weights: &Weights) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        let names: Vec<String> = self
            .tensors
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        for name in names {
            let value = self.float(&name)?;
            let Some(parameter) = weights.get(&name[prefix.len()..]) else {
                return Err(TrainError::input(&name, "names no parameter that is trained"));
            };
            expect(&name, &value, &parameter.size())?;
            parameter
                .shallow_clone()
                .f_copy_(&value)
                .map_err(TorchError::from)?;
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<(), TrainError> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => Err(TrainError::input(
                name,
                "is not known; a step takes latents, noise, index, w, prompt_embeds, uncond_prompt_embeds (SD), \
                 text_embeds and time_ids (SDXL), init.PARAMETER, and init_target.PARAMETER where the target is a \
                 moving average",
            )),
        }
    }
}

fn expect(name: &str, tensor: &Tensor, wanted: &[i64]) -> Result<(), TrainError> {
    match tensor.size() == wanted {
        true => Ok(()),
        false => Err(TrainError::input(
            name,
            format!("has shape {:?}, but must be {wanted:?}", tensor.size()),
        )),
    }
}
