//! LoRA files on the networks of a pipeline.

use std::rc::Rc;
use std::sync::Arc;

use crate::adapters::{self, Misfit, Stored, attach, fuse};
use crate::clip::{ClipTextConfig, ClipTextModel};
use crate::lora::{LoraFile, LoraModule, Part};
use crate::params::Weights;
use crate::unet::{UNet2DConditionModel, UNetConfig};
use crate::weights::{Folder, ModelError};

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
        let stored = stored(&lora.file, part);
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

/// What of a file would not load into a model: the modules of `part` that it has not, or not of that shape.
/// Only configurations are read. A model without that part has none of its modules.
///
/// # Errors
/// A configuration that is missing or not supported.
pub fn misfits<'a>(
    folder: &Folder,
    part: Part,
    file: &'a LoraFile,
) -> Result<Vec<(&'a str, Misfit)>, ModelError> {
    let network = match part {
        Part::UNet => {
            let config = folder.component(part.name())?.parse(UNetConfig::from_json)?;
            UNet2DConditionModel::new(config)?.layout().clone()
        }
        Part::TextEncoder | Part::TextEncoder2 if !folder.has(part.name()) => Arc::default(),
        Part::TextEncoder | Part::TextEncoder2 => {
            let config = folder.component(part.name())?.parse(ClipTextConfig::from_json)?;
            ClipTextModel::new(config)?.layout().clone()
        }
    };
    Ok(adapters::misfits(&network, stored(file, part)))
}

/// Whether any of the files has adapters for `part`.
pub(crate) fn any_for(part: Part, loras: &[LoraUse]) -> Option<&LoraUse> {
    loras.iter().find(|lora| !lora.file.modules(part).is_empty())
}

/// The adapters of a file for `part`, as they are attached.
fn stored(file: &LoraFile, part: Part) -> impl Iterator<Item = (&str, Stored<'_>)> {
    file.modules(part).iter().map(|(name, module)| {
        let LoraModule { a, b, alpha } = module;
        (name.as_str(), Stored { a, b, alpha: *alpha })
    })
}
