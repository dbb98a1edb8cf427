//! A model of random weights, part by part, onto the disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tch::{Device, Kind};

use super::text::TextPair;
use super::{Arch, denoiser, pipeline, text, vocabulary};
use crate::clip::{ClipTextConfig, ClipTextModel};
use crate::params::{Layout, Weights};
use crate::unet::{UNet2DConditionModel, UNetConfig};
use crate::vae::{AutoencoderKl, VaeConfig};
use crate::weights::{
    DIFFUSERS_STEM, MAX_SHARD_BYTES, ModelError, TRANSFORMERS_STEM, save_component, write_atomic,
    write_json_atomic,
};

/// One part of a model that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// Its folder, like "unet".
    pub component: &'a str,
    /// The number of numbers in its weights; none in a tokenizer or scheduler.
    pub parameters: i64,
}

/// Writes a model with random weights in `dtype` into the new folder `dir`, in diffusers' layout. Every
/// parameter starts as an untrained one does, drawn from `seed`: the same seed gives the same model.
/// `progress` is told of every part as it is done.
///
/// One part is in memory at a time. model_index.json comes last: a folder that has it is whole.
///
/// # Errors
/// A `dir` that holds something already, a dtype other than f32, bf16 and f16, or what the operating system
/// refused.
pub fn write_random(
    arch: Arch,
    dir: &Path,
    seed: u64,
    dtype: Kind,
    progress: &mut dyn FnMut(Written<'_>),
) -> Result<(), ModelError> {
    if !matches!(dtype, Kind::Float | Kind::BFloat16 | Kind::Half) {
        return Err(ModelError::input(
            "the dtype",
            format!("is {dtype:?}, but must be f32, bf16 or f16"),
        ));
    }
    refuse_to_overwrite(dir)?;
    let mut part = Part {
        dir,
        dtype,
        seed,
        progress,
    };

    part.config("scheduler", "scheduler_config.json", &pipeline::scheduler(arch))?;
    for pair in text::pairs(arch, dtype) {
        part.tokenizer(&pair)?;
        let encoder = ClipTextModel::new(ClipTextConfig::from_json(&pair.config)?)?;
        part.network(pair.encoder, &pair.config, encoder.layout(), TRANSFORMERS_STEM)?;
    }
    let config = denoiser::vae(arch);
    let vae = AutoencoderKl::new(VaeConfig::from_json(&config)?)?;
    part.network("vae", &config, vae.layout(), DIFFUSERS_STEM)?;
    let config = denoiser::unet(arch);
    let unet = UNet2DConditionModel::new(UNetConfig::from_json(&config)?)?;
    part.network("unet", &config, unet.layout(), DIFFUSERS_STEM)?;
    write_json_atomic(&dir.join("model_index.json"), &pipeline::model_index(arch))?;
    Ok(())
}

/// A model is too easily lost to a random one.
fn refuse_to_overwrite(dir: &Path) -> Result<(), ModelError> {
    fs::create_dir_all(dir).map_err(|error| ModelError::io("make folder", dir, error))?;
    let mut entries = fs::read_dir(dir).map_err(|error| ModelError::io("read folder", dir, error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(ModelError::malformed(
            dir,
            "is not empty: name a new folder, or empty this one first",
        )),
    }
}

/// What writing each part needs.
struct Part<'a> {
    dir: &'a Path,
    dtype: Kind,
    /// Counted up from part to part, so that no two have the same weights.
    seed: u64,
    progress: &'a mut dyn FnMut(Written<'_>),
}

impl Part<'_> {
    fn config(&mut self, component: &str, file: &str, value: &Value) -> Result<(), ModelError> {
        let folder = self.folder(component)?;
        write_json_atomic(&folder.join(file), value)?;
        self.done(component, 0);
        Ok(())
    }

    fn tokenizer(&mut self, pair: &TextPair) -> Result<(), ModelError> {
        let folder = self.folder(pair.tokenizer)?;
        let (vocab, merges) = vocabulary::files(pair.vocab_size);
        write_json_atomic(&folder.join("vocab.json"), &vocab)?;
        let path = folder.join("merges.txt");
        write_atomic(&path, |file| {
            std::io::Write::write_all(file, merges.as_bytes())
                .map_err(|error| ModelError::io("write", &path, error))
        })?;
        write_json_atomic(
            &folder.join("special_tokens_map.json"),
            &text::special_tokens(pair.pad_token),
        )?;
        write_json_atomic(
            &folder.join("tokenizer_config.json"),
            &text::tokenizer_config(pair.pad_token),
        )?;
        self.done(pair.tokenizer, 0);
        Ok(())
    }

    fn network(
        &mut self,
        component: &str,
        config: &Value,
        layout: &Arc<Layout>,
        stem: &str,
    ) -> Result<(), ModelError> {
        tch::manual_seed(self.seed.cast_signed());
        self.seed = self.seed.wrapping_add(1);
        let weights = libtorch_ext::catch(|| Weights::random_as(layout, self.dtype, Device::Cpu))?;
        save_component(&self.dir.join(component), config, &weights, stem, MAX_SHARD_BYTES)?;
        self.done(component, layout.elements());
        Ok(())
    }

    fn folder(&self, component: &str) -> Result<std::path::PathBuf, ModelError> {
        let folder = self.dir.join(component);
        fs::create_dir_all(&folder).map_err(|error| ModelError::io("make folder", &folder, error))?;
        Ok(folder)
    }

    fn done(&mut self, component: &str, parameters: i64) {
        (self.progress)(Written {
            component,
            parameters,
        });
    }
}
