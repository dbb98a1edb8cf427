//! LoRA files on the networks of a pipeline.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::adapters::{Stored, attach, fuse};
use crate::lora::{LoraFile, LoraModule, Part};
use crate::params::Weights;
use crate::weights::ModelError;

/// Adapters that a pipeline paints with.
#[derive(Debug, Clone)]
pub struct LoraUse {
    /// The adapters.
    pub file: Rc<LoraFile>,
    /// How much they count; 1 is as they were trained.
    pub weight: f64,
}

/// How adapters come to their networks. Both ways paint the same, up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// Beside the weights: nothing is rounded, each step takes a little longer.
    #[default]
    Attach,
    /// Added into the weights once.
    Fuse,
}

/// The weights of the part of a model that `part` is, with its adapters.
///
/// # Errors
/// Adapters of another architecture.
pub fn with_loras(
    weights: Weights,
    part: Part,
    loras: &[LoraUse],
    merge: Merge,
) -> Result<Weights, ModelError> {
    loras.iter().try_fold(weights, |weights, lora| {
        let modules = modules(&lora.file, part);
        let stored = modules.iter().map(|(name, module)| {
            let LoraModule { a, b, alpha } = module;
            (name.as_str(), Stored { a, b, alpha: *alpha })
        });
        let merged = match merge {
            Merge::Attach => attach(&weights, stored, lora.weight),
            Merge::Fuse => fuse(&weights, stored, lora.weight),
        };
        merged.map_err(|error| {
            ModelError::malformed(
                &lora.file.path,
                format_args!("does not fit the {}: {error}", part.name()),
            )
        })
    })
}

/// Whether any of the files has adapters for `part`.
pub(crate) fn any_for(part: Part, loras: &[LoraUse]) -> Option<&LoraUse> {
    loras.iter().find(|lora| !modules(&lora.file, part).is_empty())
}

fn modules(file: &LoraFile, part: Part) -> &BTreeMap<String, LoraModule> {
    match part {
        Part::UNet => &file.unet,
        Part::TextEncoder => &file.text_encoder,
        Part::TextEncoder2 => &file.text_encoder_2,
    }
}
