//! The inputs of a step that went wrong, in a file that `fewstep debug step --inputs` takes.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_models::params::Weights;
use fewstep_models::weights::write_tensors;
use libtorch_ext::{TorchError, catch};
use tch::{Device, Kind, Tensor};

use crate::draw::Draws;
use crate::error::TrainError;
use crate::micro_batch::MicroBatch;
use crate::not_finite::Trace;
use crate::replay::{INIT, INIT_TARGET};
use crate::student::Unets;

/// Writes what a step was given: the micro-batches whose loss is not finite, as one batch (all of them where every
/// loss is), and the weights of student and target.
///
/// # Errors
/// What the operating system or LibTorch refuses.
pub(crate) fn write(path: &Path, traces: &[Trace], draws: &Draws, unets: &Unets) -> Result<(), TrainError> {
    let mut chosen = Vec::new();
    for trace in traces {
        if !trace.is_finite()? {
            chosen.push(trace);
        }
    }
    if chosen.is_empty() {
        chosen.extend(traces);
    }
    let mut tensors = step_inputs(&chosen, draws)?;
    let mut add = |prefix: &str, weights: &Weights| {
        for (name, tensor) in weights.named() {
            // Masters that another rank keeps are copies here, from which the same step comes.
            let tensor = tensor.detach().f_to_kind(Kind::Float).map_err(TorchError::from)?;
            tensors.insert(format!("{prefix}{name}"), tensor);
        }
        Ok::<_, TrainError>(())
    };
    add(INIT, unets.student.master())?;
    if let Some(target) = &unets.target {
        add(INIT_TARGET, target.master())?;
    }
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(path, named, &BTreeMap::new())?;
    Ok(())
}

fn step_inputs(traces: &[&Trace], draws: &Draws) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let samples: Vec<u64> = traces.iter().flat_map(|trace| trace.samples.clone()).collect();
    let index = Tensor::f_from_slice(&draws.index(&samples)).map_err(TorchError::from)?;
    let joined = |of: &dyn Fn(&MicroBatch) -> Option<Tensor>| {
        let parts: Vec<Tensor> = traces.iter().filter_map(|trace| of(&trace.inputs)).collect();
        catch(|| match parts.is_empty() {
            true => None,
            false => Some(Tensor::cat(&parts, 0).to_device(Device::Cpu).to_kind(Kind::Float)),
        })
    };
    let added = |pick: fn(&fewstep_models::pipeline::AddedTensors) -> &Tensor| {
        joined(&|inputs| {
            inputs
                .cond
                .added
                .as_ref()
                .map(|added| pick(added).shallow_clone())
        })
    };
    let text_embeds = added(|added| &added.text_embeds)?;
    // SDXL's unconditional branch is told zeros, which no file need hold.
    let uncond = match (&text_embeds, traces.first()) {
        (None, Some(first)) => Some(first.inputs.uncond.prompt_embeds.shallow_clone()),
        _ => None,
    };
    let tensors = [
        ("latents", joined(&|inputs| Some(inputs.latents.shallow_clone()))?),
        ("noise", joined(&|inputs| Some(inputs.noise.shallow_clone()))?),
        ("index", Some(index)),
        ("w", joined(&|inputs| Some(inputs.w.shallow_clone()))?),
        (
            "prompt_embeds",
            joined(&|inputs| Some(inputs.cond.prompt_embeds.shallow_clone()))?,
        ),
        ("uncond_prompt_embeds", uncond),
        ("text_embeds", text_embeds),
        ("time_ids", added(|added| &added.time_ids)?),
    ];
    Ok(tensors
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.to_owned(), tensor?)))
        .collect())
}
