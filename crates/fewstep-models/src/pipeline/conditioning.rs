//! What the UNet is told besides latents and timestep, with and without guidance.

use tch::{Device, Tensor};

use crate::unet::AddedConditions;

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

impl Prompts {
    /// The prompts of some pictures: `rows` is `[K]` i64 on the embeddings' device, and the negative prompt
    /// is all pictures' own.
    pub fn rows(&self, rows: &Tensor) -> Self {
        Prompts {
            cond: self.cond.rows(rows),
            uncond: self
                .uncond
                .as_ref()
                .map(|uncond| uncond.map(Tensor::shallow_clone)),
        }
    }
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
    pub fn for_batch(&self, batch: i64) -> Self {
        self.map(|t| match t.size().first() {
            Some(1) => t.repeat_interleave_self_int(batch, 0, None),
            _ => t.shallow_clone(),
        })
    }

    /// These conditions and below them `other`'s, as one batch. SDXL's count only where both have them.
    pub fn above(&self, other: &Conditions) -> Self {
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
    pub fn to_device(&self, device: Device) -> Self {
        self.map(|t| t.to_device(device))
    }

    /// As a part of the UNet's input.
    pub fn added(&self) -> Option<AddedConditions<'_>> {
        self.added.as_ref().map(|added| AddedConditions {
            text_embeds: &added.text_embeds,
            time_ids: &added.time_ids,
        })
    }

    /// The conditions of some pictures: `rows` is `[K]` i64. What is one row for all stays so.
    pub fn rows(&self, rows: &Tensor) -> Self {
        let shared = self.prompt_embeds.size().first() == Some(&1);
        self.map(|t| match t.size().first() {
            Some(1) if !shared => t.shallow_clone(),
            _ => t.index_select(0, rows),
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
