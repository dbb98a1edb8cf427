//! What is trained, in files and back: whole UNets as diffusers' folders, adapters as LoRA files.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_models::adapters::AdapterSet;
use fewstep_models::lora::{DIFFUSERS_FILE, KOHYA_FILE, LoraModule, Part, write_diffusers, write_kohya};
use fewstep_models::params::Weights;
use fewstep_models::weights::{
    Component, DIFFUSERS_STEM, MAX_SHARD_BYTES, ModelError, read_tensors, save_component,
};
use libtorch_ext::TorchError;
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;
use crate::student::{Architectures, Unets};

/// The part of a LoRA file that is the UNet's.
const PREFIX: &str = "unet.";
/// Where the student's moving average lies, in a LoRA run that has one.
const LORA_TARGET: &str = "lora_target";

/// Writes the student and its moving average into a folder, in f32: unet/ and unet_target/, or the adapters'
/// file and lora_target/ with the averaged one.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn save(folder: &Path, unets: &Unets) -> Result<(), ModelError> {
    let target = unets.target.as_ref();
    if let Some(set) = unets.architectures.adapters() {
        save_adapters(folder, set, unets.student.master())?;
        return target.map_or(Ok(()), |target| {
            let place = folder.join(LORA_TARGET);
            std::fs::create_dir_all(&place).map_err(|error| ModelError::io("make folder", &place, error))?;
            save_adapters(&place, set, target.master())
        });
    }
    let config = unets.unet().config().to_json();
    let whole = |name: &str, weights: &Weights| {
        save_component(
            &folder.join(name),
            &config,
            weights,
            DIFFUSERS_STEM,
            MAX_SHARD_BYTES,
        )
    };
    whole("unet", unets.student.master())?;
    target.map_or(Ok(()), |target| whole("unet_target", target.master()))
}

/// Reads the student that [`save`] wrote, f32.
///
/// # Errors
/// Files that are missing or belong to another network.
pub(crate) fn load_student(
    folder: &Path,
    architectures: &Architectures,
    device: Device,
) -> Result<Weights, TrainError> {
    match architectures.adapters() {
        None => whole(&folder.join("unet"), architectures, device),
        Some(_) => adapters(&folder.join(DIFFUSERS_FILE), architectures, device),
    }
}

/// Reads the student's moving average that [`save`] wrote, f32.
///
/// # Errors
/// Files that are missing or belong to another network.
pub(crate) fn load_target(
    folder: &Path,
    architectures: &Architectures,
    device: Device,
) -> Result<Weights, TrainError> {
    match architectures.adapters() {
        None => whole(&folder.join("unet_target"), architectures, device),
        Some(_) => adapters(
            &folder.join(LORA_TARGET).join(DIFFUSERS_FILE),
            architectures,
            device,
        ),
    }
}

fn whole(folder: &Path, architectures: &Architectures, device: Device) -> Result<Weights, TrainError> {
    Ok(Component::open(folder)?.load(architectures.trained(), Kind::Float, device)?)
}

fn save_adapters(folder: &Path, set: &AdapterSet, weights: &Weights) -> Result<(), ModelError> {
    write_diffusers(
        &folder.join(DIFFUSERS_FILE),
        &[(Part::UNet, &modules(set, weights))],
    )
}

/// Writes the student's adapters once more, under the names that other programs know.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn save_kohya(folder: &Path, unets: &Unets) -> Result<(), ModelError> {
    let Some(set) = unets.architectures.adapters() else {
        return Ok(());
    };
    let modules = modules(set, unets.student.master());
    write_kohya(&folder.join(KOHYA_FILE), &[(Part::UNet, &modules)])
}

fn modules(set: &AdapterSet, weights: &Weights) -> BTreeMap<String, LoraModule> {
    let module = |(name, a, b): (&str, &Tensor, &Tensor)| {
        let module = LoraModule {
            a: a.shallow_clone(),
            b: b.shallow_clone(),
            alpha: set.options().alpha,
        };
        (name.to_owned(), module)
    };
    set.named(weights).map(module).collect()
}

fn adapters(path: &Path, architectures: &Architectures, device: Device) -> Result<Weights, TrainError> {
    let mut stored = read_tensors(path)?;
    let layout = architectures.trained();
    let tensors = layout.specs().iter().map(|spec| {
        let name = format!("{PREFIX}{}", spec.name);
        let Some(tensor) = stored.remove(&name) else {
            return Err(TrainError::bad_checkpoint(
                path,
                format!("has no tensor `{name}`"),
            ));
        };
        if tensor.size() != spec.shape {
            let problem = format!(
                "holds `{name}` as {:?}, but the run wants {:?}",
                tensor.size(),
                spec.shape
            );
            return Err(TrainError::bad_checkpoint(path, problem));
        }
        Ok(tensor
            .f_to_device(device)
            .and_then(|tensor| tensor.f_to_kind(Kind::Float))
            .map_err(TorchError::from)?)
    });
    let tensors: Vec<Tensor> = tensors.collect::<Result<_, TrainError>>()?;
    Ok(Weights::new(layout.clone(), tensors))
}
