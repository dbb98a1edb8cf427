//! What the UNet is told: prompts as embeddings, with and without guidance.

use libtorch_ext::{NoGrad, catch};
use tch::{Device, Kind, Tensor};

use crate::clip::{ClipTextModel, ClipTokenizer};
use crate::params::Weights;
use crate::unet::AddedConditions;
use crate::weights::{Folder, ModelError};

/// The tokenizer and text encoder of an SD 1.x or 2.x model.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: ClipTokenizer,
    model: ClipTextModel,
    weights: Weights,
}

impl TextEncoder {
    /// Loads `tokenizer` and `text_encoder` of a model.
    ///
    /// # Errors
    /// A component that is missing or not supported.
    pub fn load(folder: &Folder, kind: Kind, device: Device) -> Result<Self, ModelError> {
        let tokenizer = ClipTokenizer::load(&folder.path().join("tokenizer"))?;
        let (model, weights) = ClipTextModel::load(&folder.component("text_encoder")?, kind, device)?;
        Ok(TextEncoder {
            tokenizer,
            model,
            weights,
        })
    }

    /// The last hidden states of prompts, `[B, 77, D]`. An empty prompt is encoded like any other.
    ///
    /// # Errors
    /// No prompts, or token ids that the encoder does not know.
    pub fn encode<S: AsRef<str>>(&self, prompts: &[S]) -> Result<Tensor, ModelError> {
        let input_ids = self.tokenizer.encode(prompts)?;
        self.model.check_input_ids(&input_ids)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            let input_ids = input_ids.to_device(self.weights.device());
            self.model.forward(&self.weights, &input_ids).last_hidden_state
        })?)
    }
}

/// What a UNet sees of one prompt for each picture.
#[derive(Debug)]
pub struct Conditions {
    /// `[B, S, D]`, or `[1, S, D]` for all pictures.
    pub prompt_embeds: Tensor,
    /// What SDXL wants besides.
    pub added: Option<AddedTensors>,
}

/// SDXL's conditions besides the prompt; see [`AddedConditions`].
#[derive(Debug)]
pub struct AddedTensors {
    /// `[B, P]`, or `[1, P]` for all pictures.
    pub text_embeds: Tensor,
    /// `[B, 6]` f32, or `[1, 6]` for all pictures.
    pub time_ids: Tensor,
}

/// The prompts of a sampling run.
#[derive(Debug)]
pub struct Prompts {
    /// What the pictures shall show.
    pub cond: Conditions,
    /// What they are pushed away from: the empty or a negative prompt. Needed where guidance takes two
    /// evaluations, and not looked at elsewhere.
    pub uncond: Option<Conditions>,
}

impl From<Tensor> for Conditions {
    /// The embeddings of a model that wants nothing else.
    fn from(prompt_embeds: Tensor) -> Self {
        Conditions {
            prompt_embeds,
            added: None,
        }
    }
}

impl Conditions {
    /// The same, with a single row repeated for `batch` pictures.
    pub(super) fn for_batch(&self, batch: i64) -> Self {
        self.map(|t| match t.size().first() {
            Some(1) => t.repeat_interleave_self_int(batch, 0, None),
            _ => t.shallow_clone(),
        })
    }

    /// These conditions and below them `other`'s, as one batch. SDXL's count only where both have them.
    pub(super) fn above(&self, other: &Conditions) -> Self {
        Conditions {
            prompt_embeds: Tensor::cat(&[&self.prompt_embeds, &other.prompt_embeds], 0),
            added: match (&self.added, &other.added) {
                (Some(a), Some(b)) => Some(AddedTensors {
                    text_embeds: Tensor::cat(&[&a.text_embeds, &b.text_embeds], 0),
                    time_ids: Tensor::cat(&[&a.time_ids, &b.time_ids], 0),
                }),
                _ => None,
            },
        }
    }

    /// The same, on `device`.
    pub(super) fn to_device(&self, device: Device) -> Self {
        self.map(|t| t.to_device(device))
    }

    /// As a part of the UNet's input.
    pub(super) fn added(&self) -> Option<AddedConditions<'_>> {
        self.added.as_ref().map(|added| AddedConditions {
            text_embeds: &added.text_embeds,
            time_ids: &added.time_ids,
        })
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Conditions {
            prompt_embeds: f(&self.prompt_embeds),
            added: self.added.as_ref().map(|added| AddedTensors {
                text_embeds: f(&added.text_embeds),
                time_ids: f(&added.time_ids),
            }),
        }
    }
}
