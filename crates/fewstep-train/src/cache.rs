//! A run's use of the cache: what text encoders and VAE made before is looked up instead of made again, and what is
//! new is kept.
//!
//! Each picture and each prompt is encoded by itself, so that an entry does not depend on what else was in its batch, and
//! kept in the dtype in which the network gave it: an entry is to the bit what the network would give. It knows
//! tensors and keys; files are [`fewstep_data::cache`]'s business.

use std::sync::Arc;

use fewstep_data::cache::{Blob, Key, KeyMaker, Latents, Note, Store};
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{EncodedPrompts, TextEncoders};
use fewstep_models::vae::{AutoencoderKl, Moments};
use fewstep_models::weights::{dtype_of, kind_of, tensor_bytes};
use libtorch_ext::{TorchError, catch};
use tch::{Device, Tensor};

use crate::config::Config;
use crate::error::TrainError;

/// The store with the digests of the networks that fill it.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Arc<Store>,
    text: Key,
    vae: Key,
    device: Device,
}

impl Cache {
    /// The cache that the options ask for, of what these networks make, for `device`.
    ///
    /// # Errors
    /// A folder that cannot be used, or what LibTorch refuses.
    pub(crate) fn open(
        config: &Config,
        encoders: &TextEncoders,
        vae: (&AutoencoderKl, &Weights),
        device: Device,
    ) -> Result<Option<Self>, TrainError> {
        let Some(folder) = config.data.cache_dir.as_deref() else {
            return Ok(None);
        };
        let max_bytes = (config.data.cache_max_gb * 1e9) as u64;
        let mut text = KeyMaker::new("text encoders");
        for (config, weights) in encoders.networks() {
            text = text.key(network("clip", &format!("{config:?}"), weights)?);
        }
        let (vae, weights) = vae;
        Ok(Some(Cache {
            store: Arc::new(Store::open(folder, Some(max_bytes))?),
            text: text.finish(),
            vae: network("vae", &format!("{:?}", vae.config()), weights)?,
            device,
        }))
    }

    /// What the data loader looks up.
    pub(crate) fn latents(&self) -> Latents {
        Latents::new(Arc::clone(&self.store), self.vae)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The embeddings of prompts; those that are not there are made, and kept.
    ///
    /// # Errors
    /// As [`TextEncoders::encode`].
    pub(crate) fn prompts(
        &self,
        encoders: &TextEncoders,
        prompts: &[&str],
    ) -> Result<EncodedPrompts, TrainError> {
        let each = prompts.iter().map(|prompt| self.prompt(encoders, prompt));
        let rows = each.collect::<Result<Vec<_>, _>>()?;
        Ok(catch(|| EncodedPrompts::cat(&rows))?)
    }

    /// The embeddings of one prompt, `[1, ..]`.
    fn prompt(&self, encoders: &TextEncoders, prompt: &str) -> Result<EncodedPrompts, TrainError> {
        let ids = encoders.tokenize(&[prompt])?;
        let key = self.prompt_key(&ids.of_each().concat());
        if let Some(known) = self.known_prompt(key, encoders)? {
            return Ok(known);
        }
        let made = encoders.encode_ids(&ids)?;
        // First what the other promises.
        if let Some(text_embeds) = &made.text_embeds {
            self.keep(pooled(key), text_embeds)?;
        }
        self.keep(key, &made.prompt_embeds)?;
        Ok(made)
    }

    /// Makes and keeps what there is not of a prompt's embeddings; whether there was anything to make.
    ///
    /// # Errors
    /// As [`TextEncoders::encode`].
    pub(crate) fn fill_prompt(&self, encoders: &TextEncoders, prompt: &str) -> Result<bool, TrainError> {
        let key = self.prompt_key(&encoders.tokenize(&[prompt])?.of_each().concat());
        let known = self.store.holds(key);
        if !known {
            self.prompt(encoders, prompt)?;
        }
        Ok(!known)
    }

    /// The distribution that an entry holds, `[1, C, h, w]` each.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn moments(&self, blob: &Blob) -> Result<Moments, TrainError> {
        let both = tensor(blob, self.device)?;
        Ok(catch(|| Moments {
            mean: both.narrow(0, 0, 1),
            logvar: both.narrow(0, 1, 1),
        })?)
    }

    /// Keeps a distribution, `[1, C, h, w]` each.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn keep_moments(&self, key: Key, moments: &Moments) -> Result<(), TrainError> {
        let both = catch(|| Tensor::cat(&[&moments.mean, &moments.logvar], 0))?;
        self.keep(key, &both)
    }

    fn prompt_key(&self, ids: &[i64]) -> Key {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        KeyMaker::new("prompt").key(self.text).bytes(&bytes).finish()
    }

    fn known_prompt(&self, key: Key, encoders: &TextEncoders) -> Result<Option<EncodedPrompts>, TrainError> {
        let Some(prompt_embeds) = self.store.get(key) else {
            return Ok(None);
        };
        let pools = encoders.networks().count() > 1;
        let text_embeds = match self.store.get(pooled(key)) {
            None if pools => return Ok(None),
            blob => blob.map(|blob| tensor(&blob, self.device)).transpose()?,
        };
        Ok(Some(EncodedPrompts {
            prompt_embeds: tensor(&prompt_embeds, self.device)?,
            text_embeds,
        }))
    }

    fn keep(&self, key: Key, tensor: &Tensor) -> Result<(), TrainError> {
        let (false, Some(dtype)) = (self.store.is_closed(), dtype_of(tensor.kind())) else {
            return Ok(());
        };
        let blob = Blob {
            dtype,
            shape: tensor.size().iter().map(|&n| n as usize).collect(),
            bytes: tensor_bytes(tensor)?,
        };
        self.store.put(key, blob);
        Ok(())
    }
}

/// What the caches of this run met with since this was asked last.
pub(crate) fn notes(cache: Option<&Cache>) -> Vec<Note> {
    cache.map_or(Vec::new(), |cache| cache.store.notes())
}

/// Where a prompt's pooled embedding is kept.
fn pooled(prompt: Key) -> Key {
    KeyMaker::new("pooled").key(prompt).finish()
}

/// The digest of a network: what it is and the numbers that it holds, in their dtype.
fn network(kind: &str, config: &str, weights: &Weights) -> Result<Key, TrainError> {
    let mut maker = KeyMaker::new(kind).bytes(config.as_bytes());
    for (name, tensor) in weights.named() {
        let dtype = format!("{:?}", tensor.kind());
        maker = maker
            .bytes(name.as_bytes())
            .bytes(dtype.as_bytes())
            .bytes(&tensor_bytes(tensor)?);
    }
    Ok(maker.finish())
}

fn tensor(blob: &Blob, device: Device) -> Result<Tensor, TrainError> {
    let wrong = || {
        TrainError::input(
            "a cache's entry",
            format!("is {:?}, which is never written", blob.dtype),
        )
    };
    let kind = kind_of(blob.dtype).ok_or_else(wrong)?;
    let shape: Vec<i64> = blob.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(&blob.bytes, &shape, kind)
        .and_then(|tensor| tensor.f_to_device(device))
        .map_err(TorchError::from)?)
}
