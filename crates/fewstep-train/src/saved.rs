//! What is trained, in files and back: whole UNets as diffusers' folders, adapters as LoRA files.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_models::adapters::AdapterSet;
use fewstep_models::lora::{DIFFUSERS_FILE, KOHYA_FILE, LoraModule, Part, write_diffusers, write_kohya};
use fewstep_models::params::Weights;
use fewstep_models::weights::{
    Component, DIFFUSERS_STEM, MAX_SHARD_BYTES, ModelError, Written, read_tensors, save_component,
};
use libtorch_ext::TorchError;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;
use crate::precision::Mastered;
use crate::student::{Architectures, Unets};
use crate::sums::Sums;
use crate::whole_folder;

/// The part of a LoRA file that is the UNet's.
const PREFIX: &str = "unet.";
/// Where the student's moving average lies, in a LoRA run that has one.
const LORA_TARGET: &str = "lora_target";

/// What a run has trained so far, as files hold it. The tensors are the run's own, or a copy.
#[derive(Debug)]
pub(crate) struct Trained {
    form: Form,
    student: Weights,
    /// The student's moving average, where the run has one.
    target: Option<Weights>,
}

/// How it is written.
#[derive(Debug, Clone)]
enum Form {
    /// Whole UNets with this configuration.
    Whole(Value),
    /// Adapters.
    Adapters(AdapterSet),
}

impl Trained {
    /// The trained weights of a run, shared with it.
    pub(crate) fn of(unets: &Unets) -> Self {
        let shared = |weights: &Mastered| weights.master().map(Tensor::shallow_clone);
        Trained::with(unets, shared(&unets.student), unets.target.as_ref().map(shared))
    }

    /// These weights as a run's: the student's, and its average where the run has one.
    pub(crate) fn with(unets: &Unets, student: Weights, target: Option<Weights>) -> Self {
        Trained {
            form: match unets.architectures.adapters() {
                Some(set) => Form::Adapters(set.clone()),
                None => Form::Whole(unets.unet().config().to_json()),
            },
            student,
            target,
        }
    }

    /// All tensors, in an order of their own.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let target = self.target.iter().flat_map(Weights::tensors);
        self.student.tensors().iter().chain(target)
    }

    /// The same with every tensor replaced by `f` of it.
    ///
    /// # Errors
    /// What `f` refuses.
    pub(crate) fn try_map(
        &self,
        mut f: impl FnMut(&Tensor) -> Result<Tensor, TrainError>,
    ) -> Result<Self, TrainError> {
        let mut map = |weights: &Weights| {
            let tensors: Result<Vec<Tensor>, TrainError> = weights.tensors().iter().map(&mut f).collect();
            Ok::<_, TrainError>(Weights::new(weights.layout().clone(), tensors?))
        };
        Ok(Trained {
            form: self.form.clone(),
            student: map(&self.student)?,
            target: self.target.as_ref().map(map).transpose()?,
        })
    }

    /// Writes the student and its moving average into a folder, in f32: unet/ and unet_target/, or the adapters'
    /// file and lora_target/ with the averaged one. Folders are made by `folders`, so that each can be whole or not
    /// there. Returns what was written.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn save(&self, folder: &Path, folders: Folders) -> Result<Sums, TrainError> {
        let mut sums = Sums::default();
        match &self.form {
            Form::Whole(config) => {
                for (name, weights) in [
                    ("unet", Some(&self.student)),
                    ("unet_target", self.target.as_ref()),
                ] {
                    let Some(weights) = weights else { continue };
                    let files = folders.fill(&folder.join(name), |place| {
                        Ok(save_component(
                            place,
                            config,
                            weights,
                            DIFFUSERS_STEM,
                            MAX_SHARD_BYTES,
                        )?)
                    })?;
                    sums.add_folder(name, files);
                }
            }
            Form::Adapters(set) => {
                sums.add(DIFFUSERS_FILE, save_adapters(folder, set, &self.student)?);
                if let Some(target) = &self.target {
                    let written = folders.fill(&folder.join(LORA_TARGET), |place| {
                        Ok(save_adapters(place, set, target)?)
                    })?;
                    sums.add(format!("{LORA_TARGET}/{DIFFUSERS_FILE}"), written);
                }
            }
        }
        Ok(sums)
    }

    /// Writes the student's adapters once more, under the names that other programs know; nothing of whole UNets.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn save_kohya(&self, folder: &Path) -> Result<(), TrainError> {
        if let Form::Adapters(set) = &self.form {
            let modules = modules(set, &self.student);
            write_kohya(&folder.join(KOHYA_FILE), &[(Part::UNet, &modules)])?;
        }
        Ok(())
    }
}

/// How the folders of a save are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Folders {
    /// As they are: inside a folder that will be there whole or not at all.
    Plain,
    /// Each for itself whole or not at all.
    Whole,
}

impl Folders {
    fn fill<T>(
        self,
        place: &Path,
        fill: impl FnOnce(&Path) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        match self {
            Folders::Whole => whole_folder::put(place, fill),
            Folders::Plain => {
                whole_folder::make(place)?;
                fill(place)
            }
        }
    }
}

/// Whether a folder of this name in a run's folder is a part of its results.
pub(crate) fn is_result(name: &str) -> bool {
    ["unet", "unet_target", LORA_TARGET, "scheduler"].contains(&name)
}

/// Reads the student that [`Trained::save`] wrote, f32.
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

/// Reads the student's moving average that [`Trained::save`] wrote, f32.
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

fn save_adapters(folder: &Path, set: &AdapterSet, weights: &Weights) -> Result<Written, ModelError> {
    write_diffusers(
        &folder.join(DIFFUSERS_FILE),
        &[(Part::UNet, &modules(set, weights))],
    )
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
