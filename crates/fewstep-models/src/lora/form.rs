//! What there is to say about a file of adapters besides its adapters: its form, where its alphas come from, and
//! which of its tensors could not be used.

use std::fmt::{self, Display};

/// The family of names that a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraForm {
    /// diffusers' names of today: `unet.PATH.lora_A.weight`.
    Diffusers,
    /// diffusers' names of 2023: `unet.PATH.lora.down.weight`, `PATH.processor.to_q_lora.down.weight`.
    OldDiffusers,
    /// Both in one file, as the reference's SDXL script writes: diffusers drops the old ones.
    MixedDiffusers,
    /// `unet.base_model.model.PATH.lora_A.weight`, as the reference's WebDataset scripts write: diffusers refuses it.
    WrappedDiffusers,
    /// PEFT's own: `base_model.model.PATH.lora_A.weight` beside an adapter_config.json.
    Peft,
    /// kohya's names over diffusers' paths: `lora_unet_down_blocks_0_...lora_down.weight`.
    Kohya,
    /// kohya's names over the block names of the original model: `lora_unet_input_blocks_1_...lora_down.weight`.
    KohyaSgm,
    /// Names of several families.
    Mixed,
    /// No name is an adapter's.
    Unknown,
}

impl Display for LoraForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoraForm::Diffusers => "diffusers (lora_A, lora_B)",
            LoraForm::OldDiffusers => "old diffusers (lora.down, lora.up)",
            LoraForm::MixedDiffusers => "a mix of old and new diffusers names",
            LoraForm::WrappedDiffusers => "diffusers with PEFT's prefix left in (unet.base_model.model)",
            LoraForm::Peft => "PEFT (base_model.model)",
            LoraForm::Kohya => "kohya",
            LoraForm::KohyaSgm => "kohya with SGM block names",
            LoraForm::Mixed => "a mix of several families of names",
            LoraForm::Unknown => "no LoRA that fewstep knows",
        })
    }
}

/// Where a module's alpha comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlphaSource {
    /// A tensor of the file.
    Tensor,
    /// The file's `lora_adapter_metadata`.
    Metadata,
    /// The adapter_config.json that belongs to the file.
    AdapterConfig,
    /// [`super::ReadOptions::alpha`], since the file states none.
    Given,
    /// Nothing states it; it is the rank, as every reader assumes.
    Rank,
}

impl Display for AlphaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AlphaSource::Tensor => "stated by tensors",
            AlphaSource::Metadata => "stated by the metadata",
            AlphaSource::AdapterConfig => "stated by adapter_config.json",
            AlphaSource::Given => "as given, the file states none",
            AlphaSource::Rank => "the rank, since the file states none",
        })
    }
}

/// A tensor that could not become part of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unloadable {
    /// Its name in the file.
    pub key: String,
    /// Why not.
    pub reason: Reason,
}

/// Why a tensor could not become part of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the magnitude of a DoRA (Liu et al., 2024), without which the matrices beside it mean something else.
    Dora,
    /// Anything else, as the rest of a sentence that begins with the key.
    Other(String),
}

impl Reason {
    pub(super) fn other(sentence: impl Into<String>) -> Self {
        Reason::Other(sentence.into())
    }
}

impl Display for Unloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key)?;
        f.write_str(match &self.reason {
            Reason::Dora => "is the magnitude of a DoRA, which fewstep does not support",
            Reason::Other(sentence) => sentence,
        })
    }
}
