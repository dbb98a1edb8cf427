//! The settings that go with a file: in its metadata, network by network, or in PEFT's adapter_config.json.

use std::path::PathBuf;

use serde_json::Value;

use super::assemble::Assembly;
use super::config::{AdapterConfig, METADATA_KEY};
use super::form::AlphaSource;
use super::module::Part;
use super::place;
use crate::weights::{ModelError, TensorFile, read_json};

/// What was found.
#[derive(Debug)]
pub(super) struct Settings {
    of_parts: Vec<(Part, AdapterConfig)>,
    of_file: Option<(PathBuf, AdapterConfig)>,
}

impl Settings {
    /// Finds the settings of an open file.
    ///
    /// # Errors
    /// They cannot be read, or make no sense.
    pub(super) fn find(file: &TensorFile, assembly: &Assembly) -> Result<Self, ModelError> {
        let mut of_parts = Vec::new();
        if let Some(text) = file.metadata().get(METADATA_KEY) {
            for part in Part::ALL {
                let config = AdapterConfig::from_metadata(text, part, file.path())?;
                of_parts.extend(config.map(|config| (part, config)));
            }
        }
        let path = match assembly.wants_adapter_config() {
            true => place::adapter_config(file.path()),
            false => None,
        };
        let of_file = path
            .map(|path| {
                let value = read_json(&path, "it holds the settings of the adapter beside it")?;
                let Value::Object(settings) = &value else {
                    return Err(ModelError::malformed(&path, "is not a JSON object"));
                };
                let config = AdapterConfig::from_json(settings, &path)?;
                Ok::<_, ModelError>((path, config))
            })
            .transpose()?;
        Ok(Settings { of_parts, of_file })
    }

    /// The settings of a network's adapters, and where they stand.
    pub(super) fn of(&self, part: Part) -> Option<(&AdapterConfig, AlphaSource)> {
        let metadata = self.of_parts.iter().find(|(of, _)| *of == part);
        let metadata = metadata.map(|(_, config)| (config, AlphaSource::Metadata));
        let file = self.of_file.as_ref();
        metadata.or(file.map(|(_, config)| (config, AlphaSource::AdapterConfig)))
    }

    /// Whether they say that the adapters are DoRAs.
    pub(super) fn use_dora(&self) -> bool {
        self.all().any(|config| config.use_dora)
    }

    /// What had to be put right.
    pub(super) fn repairs(&self) -> Vec<String> {
        let rslora = self.all().any(|config| config.use_rslora);
        let repair = "the scales were alpha / sqrt(rank) (use_rslora); alphas were raised so that alpha / rank is the same";
        rslora.then(|| repair.to_owned()).into_iter().collect()
    }

    fn all(&self) -> impl Iterator<Item = &AdapterConfig> {
        let parts = self.of_parts.iter().map(|(_, config)| config);
        parts.chain(self.of_file.as_ref().map(|(_, config)| config))
    }
}
