//! What a run is told: options with types and defaults, read from a TOML file and from command-line words,
//! checked, and written back resolved.
//!
//! `sections` declares the options; a binary builds its command line from [`Config::FLAGS`]. This module
//! reads no models and no data.

mod choices;
mod derived;
mod later;
mod sections;
mod validate;
mod validation;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use choices::{
    CondProjInit, GradientCheckpointing, Interpolation, LossType, LrSchedule, Method, MixedPrecision, OnNan,
    OnSaveError, ProfiledSteps, ReportTo, Zero,
};
pub use later::{LATER, LaterFlag};
pub use sections::{
    Config, DataConfig, DistillationConfig, Flag, LoraConfig, ModelConfig, OptimizerConfig, RunConfig,
    ValidationConfig,
};
pub use value::FlagKind;

/// What is wrong with a run's options.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that no option has.
    #[error("there is no option --{name}{}", the_nearest(.nearest))]
    Unknown {
        /// What was written.
        name: String,
        /// The option's name that is most like it.
        nearest: Option<&'static str>,
    },
    /// A value that is not of the option's type, or out of its range.
    #[error("--{flag}: {reason}")]
    Value {
        /// The option.
        flag: String,
        /// What is wrong and what is wanted.
        reason: String,
    },
    /// An option without which nothing can be trained.
    #[error("--{flag} is required: {hint}")]
    Missing {
        /// The option.
        flag: &'static str,
        /// What to give.
        hint: &'static str,
    },
    /// Options of the reference that are not built.
    #[error("not yet: {}; leave {} out", .0.iter().map(not_yet).collect::<Vec<_>>().join("; "), them(.0.len()))]
    NotYet(Vec<LaterFlag>),
    /// A value of an option that asks for what is not built.
    #[error("not yet: --{flag} {value} ({feature})")]
    ValueNotYet {
        /// The option.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it asks for.
        feature: &'static str,
    },
    /// A configuration file that cannot be read.
    #[error("the configuration {} cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A section or option of a configuration file that cannot be taken.
    #[error("the configuration {}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: Box<ConfigError>,
    },
}

impl ConfigError {
    fn value(flag: &str, reason: impl Into<String>) -> Self {
        ConfigError::Value {
            flag: flag.to_owned(),
            reason: reason.into(),
        }
    }
}

fn the_nearest(name: &Option<&'static str>) -> String {
    name.map_or(String::new(), |name| format!("; the nearest is --{name}"))
}

fn not_yet(flag: &LaterFlag) -> String {
    format!("--{} ({})", flag.name, flag.feature)
}

fn them(count: usize) -> &'static str {
    if count == 1 { "it" } else { "them" }
}

impl Config {
    /// Sets the option `name` (with `_` or `-`) to the command line's words: none for a switch, one for a
    /// value, any number for a list.
    ///
    /// # Errors
    /// An unknown name (the nearest is named), one that is not built, or words of another type.
    pub fn set(&mut self, name: &str, words: &[String]) -> Result<(), ConfigError> {
        let name = name.replace('-', "_");
        let value = self.find(&name)?;
        value
            .set_words(words)
            .map_err(|reason| ConfigError::value(&name, reason))
    }

    /// Sets what a TOML file says. Options lie in their sections, or at the top without one.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, an unknown key (the nearest is named), or a value of
    /// another type.
    pub fn read_toml(&mut self, path: &Path) -> Result<(), ConfigError> {
        let in_file = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| in_file(error.to_string()))?;
        self.set_table(&table).map_err(|source| ConfigError::InFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Sets the options of a TOML table.
    fn set_table(&mut self, table: &toml::Table) -> Result<(), ConfigError> {
        for (key, value) in table {
            match value {
                toml::Value::Table(section) if Self::SECTIONS.contains(&key.as_str()) => {
                    for (name, value) in section {
                        self.set_toml(name, value)?;
                    }
                }
                _ => self.set_toml(key, value)?,
            }
        }
        Ok(())
    }

    fn set_toml(&mut self, name: &str, value: &toml::Value) -> Result<(), ConfigError> {
        let name = name.replace('-', "_");
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if LATER
            .iter()
            .any(|flag| flag.name == name && flag.is_off(&[&word]))
        {
            return Ok(());
        }
        self.find(&name)?
            .set_toml(value)
            .map_err(|reason| ConfigError::value(&name, reason))
    }

    fn find(&mut self, name: &str) -> Result<&mut dyn value::FlagValue, ConfigError> {
        if let Some(later) = LATER.iter().find(|flag| flag.name == name) {
            return Err(ConfigError::NotYet(vec![*later]));
        }
        self.value(name).ok_or_else(|| ConfigError::Unknown {
            name: name.to_owned(),
            nearest: Self::nearest(name),
        })
    }

    /// The option whose name is most like `name`, if any is like it at all.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let name = name.replace('-', "_");
        Self::FLAGS
            .iter()
            .map(|flag| flag.name)
            .chain(LATER.iter().map(|flag| flag.name))
            .map(|known| (strsim::jaro_winkler(known, &name), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.6)
            .map(|(_, known)| known)
    }

    /// The options that are set, as words of a command line, by name.
    pub fn words(&self) -> BTreeMap<String, String> {
        let mut config = self.clone();
        Self::FLAGS
            .iter()
            .filter_map(|flag| Some((flag.name.to_owned(), config.value(flag.name)?.word()?)))
            .collect()
    }

    /// The resolved options as a TOML file with the sections, without credentials: shards whose address held one have
    /// to be named again by who trains with that file.
    ///
    /// # Errors
    /// A number that TOML cannot hold (a seed above 2^63 - 1).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(&self.shown())
            .map_err(|error| ConfigError::value("seed", format!("TOML cannot hold it: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_take_words_with_underscores_or_hyphens() {
        let mut config = Config::default();
        config.set("train-batch-size", &words("4")).unwrap();
        config.set("random_flip", &[]).unwrap();
        config.set("loss_type", &words("huber")).unwrap();
        config.set("learning_rate", &words("1e-5")).unwrap();
        assert_eq!(config.data.train_batch_size, 4);
        assert!(config.data.random_flip);
        assert_eq!(config.distillation.loss_type, LossType::Huber);
        assert_eq!(config.optimizer.learning_rate, Some(1e-5));
    }

    #[test]
    fn an_error_names_the_flag_and_what_it_takes() {
        let mut config = Config::default();
        let mut message = |name: &str, value: &str| config.set(name, &words(value)).unwrap_err().to_string();
        assert_eq!(
            message("resolutoin", "1"),
            "there is no option --resolutoin; the nearest is --resolution"
        );
        assert_eq!(
            message("loss_type", "l1"),
            "--loss_type: `l1` is none of l2, huber"
        );
        assert_eq!(
            message("push_to_hub", "true"),
            "not yet: --push_to_hub (the model hub); leave it out"
        );
        assert!(message("resolution", "-3").contains("--resolution: `-3` is not a whole number"));
    }

    #[test]
    fn toml_is_read_back_as_it_was_written() {
        let mut config = Config::default();
        config.set("pretrained_teacher_model", &words("teacher")).unwrap();
        config
            .set("train_shards_path_or_url", &words("a.tar b.tar"))
            .unwrap();
        config.set("adam_epsilon", &words("1e-6")).unwrap();
        let folder = std::env::temp_dir().join(format!("fewstep-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("config.toml");
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        let mut again = Config::default();
        again.read_toml(&path).unwrap();
        assert_eq!(again, config.resolved());
        config
            .set("train_shards_path_or_url", &words("https://me:hush@host/a.tar"))
            .unwrap();
        assert!(!config.to_toml().unwrap().contains("hush"));
        std::fs::write(&path, "resolution = 64\n[data]\ntrain_batchsize = 2\n").unwrap();
        let error = again.read_toml(&path).unwrap_err();
        assert!(
            error.to_string().contains("the nearest is --train_batch_size"),
            "{error}"
        );
        std::fs::write(&path, "report_to = \"none\"\npush_to_hub = false\n").unwrap();
        again.read_toml(&path).unwrap();
        std::fs::write(&path, "push_to_hub = true\n").unwrap();
        let error = again.read_toml(&path).unwrap_err();
        assert!(error.to_string().contains("not yet: --push_to_hub"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_flag_has_help_and_its_default_can_be_read() {
        for flag in Config::FLAGS {
            assert!(flag.help.len() > 10, "{}", flag.name);
            assert!(!LATER.iter().any(|later| later.name == flag.name));
            if let Some(word) = flag.default_word() {
                Config::default().set(flag.name, &[word]).unwrap();
            }
        }
    }
}
