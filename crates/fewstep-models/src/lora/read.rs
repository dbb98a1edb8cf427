//! A file of adapters of any form, read.
//!
//! It knows what adapters are made of. Whether a model has the modules they are for, the model knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::assemble::Assembly;
use super::error::LoraError;
use super::form::{AlphaSource, LoraForm, Reason, Unloadable};
use super::matrices::Matrices;
use super::module::{LoraModule, Part};
use super::place;
use super::settings::Settings;
use crate::weights::{ModelError, TensorFile};

/// What a file does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// The layers of a level of the UNet, which SGM's block names depend on: 2 in all published Stable Diffusion
    /// models.
    pub layers_per_block: usize,
    /// The alpha of modules whose alpha the file does not state. None takes the rank, as every reader does.
    pub alpha: Option<f64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            layers_per_block: 2,
            alpha: None,
        }
    }
}

/// Low-rank adapters as a file holds them, under the paths of diffusers' modules and in the file's dtypes, on the
/// CPU.
#[derive(Debug)]
pub struct LoraFile {
    /// The file of tensors: of a folder, the one inside.
    pub path: PathBuf,
    /// The UNet's, under paths like `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub unet: BTreeMap<String, LoraModule>,
    /// The text encoder's, under paths like `text_model.encoder.layers.0.self_attn.q_proj`.
    pub text_encoder: BTreeMap<String, LoraModule>,
    /// The second text encoder's, which also has `text_projection`.
    pub text_encoder_2: BTreeMap<String, LoraModule>,
    /// Whose names the file has.
    pub form: LoraForm,
    /// Where the alphas come from: more than one where modules differ.
    pub alpha_sources: BTreeSet<AlphaSource>,
    /// What was put right, a sentence each.
    pub repairs: Vec<String>,
    /// The tensors that are no part of any adapter; [`LoraFile::read`] leaves none.
    pub unloadable: Vec<Unloadable>,
}

impl LoraFile {
    /// Reads a file, or a folder with PEFT's or diffusers' file in it.
    ///
    /// # Errors
    /// The file cannot be read, or one of its tensors is no part of an adapter: nothing is left out in silence. A
    /// DoRA is such a case.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        LoraFile::read_with(path, &ReadOptions::default())
    }

    /// The same, told what the file does not say.
    ///
    /// # Errors
    /// As for [`LoraFile::read`].
    pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Self, ModelError> {
        let file = LoraFile::examine(path, options)?;
        if let Some(dora) = file
            .unloadable
            .iter()
            .find(|tensor| tensor.reason == Reason::Dora)
        {
            return Err(LoraError::Dora {
                path: file.path,
                key: dora.key.clone(),
            }
            .into());
        }
        if !file.unloadable.is_empty() {
            return Err(LoraError::Unloadable {
                path: file.path,
                tensors: file.unloadable,
            }
            .into());
        }
        Ok(file)
    }

    /// Reads what can be read, and lists in `unloadable` what cannot.
    ///
    /// # Errors
    /// The file is missing, not whole, empty, or its settings make no sense.
    pub fn examine(path: &Path, options: &ReadOptions) -> Result<Self, ModelError> {
        let path = place::tensors(path)?;
        let file = TensorFile::open(&path)?;
        if file.names().next().is_none() {
            return Err(LoraError::Empty { path }.into());
        }
        let mut assembly = Assembly::of(file.names(), options.layers_per_block);
        let settings = Settings::find(&file, &assembly)?;
        if settings.use_dora() {
            assembly.refuse(
                "`use_dora` of the settings",
                Reason::other("is set: this is a DoRA"),
            );
        }
        let mut read = LoraFile {
            path,
            unet: BTreeMap::new(),
            text_encoder: BTreeMap::new(),
            text_encoder_2: BTreeMap::new(),
            form: assembly.form(),
            alpha_sources: BTreeSet::new(),
            repairs: assembly.repairs(),
            unloadable: Vec::new(),
        };
        let mut off_rank = Vec::new();
        for ((part, module), names) in std::mem::take(&mut assembly.modules) {
            let found = match Matrices::read(&file, &names)? {
                Ok(found) => found,
                Err(unloadable) => {
                    assembly.unloadable.push(unloadable);
                    continue;
                }
            };
            let rank = found.a.size()[0];
            let config = settings.of(part);
            let stated = match found.alpha {
                Some(alpha) => Some((alpha, AlphaSource::Tensor)),
                None => config.map(|(config, source)| (config.alpha(&module, rank), source)),
            };
            let given = options.alpha.map(|alpha| (alpha, AlphaSource::Given));
            let (alpha, source) = stated.or(given).unwrap_or((rank as f64, AlphaSource::Rank));
            if config.is_some_and(|(config, _)| config.rank(&module) != rank as f64) {
                off_rank.push(format!("{}.{module}", part.name()));
            }
            read.alpha_sources.insert(source);
            let Matrices { a, b, .. } = found;
            read.modules_mut(part).insert(module, LoraModule { a, b, alpha });
        }
        if let Some(first) = off_rank.first() {
            read.repairs.push(format!(
                "the settings give {} modules another rank than their tensors have ({first} is the first); the \
                 tensors' was taken",
                off_rank.len()
            ));
        }
        read.repairs.extend(settings.repairs());
        read.unloadable = assembly.unloadable;
        Ok(read)
    }

    /// The adapters of one network.
    pub fn modules(&self, part: Part) -> &BTreeMap<String, LoraModule> {
        match part {
            Part::UNet => &self.unet,
            Part::TextEncoder => &self.text_encoder,
            Part::TextEncoder2 => &self.text_encoder_2,
        }
    }

    fn modules_mut(&mut self, part: Part) -> &mut BTreeMap<String, LoraModule> {
        match part {
            Part::UNet => &mut self.unet,
            Part::TextEncoder => &mut self.text_encoder,
            Part::TextEncoder2 => &mut self.text_encoder_2,
        }
    }

    /// The networks that have adapters, with these.
    pub fn parts(&self) -> Vec<(Part, &BTreeMap<String, LoraModule>)> {
        let all = Part::ALL.map(|part| (part, self.modules(part)));
        all.into_iter()
            .filter(|(_, modules)| !modules.is_empty())
            .collect()
    }
}
