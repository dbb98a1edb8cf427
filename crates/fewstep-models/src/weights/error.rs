//! The crate's error: what is wrong with a file, a configuration or an input, where, and what to do.
//!
//! It knows the kinds of trouble, not the networks that meet them.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use libtorch_ext::TorchError;

use super::Mismatch;

use crate::lora::LoraError;
use crate::schedule::ScheduleError;

/// What can be wrong with a model's files, its configuration, or a tensor given to it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system refused.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "rename".
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A folder or file that must be there is not.
    #[error("{} does not exist: {remedy}", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What should be there, and how it gets there.
        remedy: String,
    },

    /// A file that is not the JSON it should be.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why it fails.
        source: serde_json::Error,
    },

    /// A file that can be read but does not hold what it should.
    #[error("{} {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence that begins with the path.
        problem: String,
    },

    /// A link in a folder that is not trusted.
    #[error(
        "{} is a link that leads out of its folder, to {}; a model's folder might show files in this way that it was \
         not given: put the file itself there, or a copy of it",
        path.display(),
        to.display()
    )]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },

    /// Only pickles, which run code when they are read.
    #[error(
        "{} holds weights as a pickle only, which fewstep does not read since a pickle can run code: convert it \
         to safetensors, in Python with `from_pretrained(DIR, use_safetensors=False)` and then \
         `save_pretrained(DIR, safe_serialization=True)`",
        path.display()
    )]
    Pickle {
        /// The pickle.
        path: PathBuf,
    },

    /// Weights that are not the network's.
    #[error("the weights in {} are not those of its configuration: {mismatch}", path.display())]
    Mismatch {
        /// The file or folder of weights.
        path: PathBuf,
        /// Every tensor that is missing, unexpected or of another shape.
        mismatch: Mismatch,
    },

    /// An option of a configuration that is missing, of the wrong type, or not supported.
    #[error("option `{option}` of {config} {problem}")]
    Option {
        /// Whose configuration, like "UNet2DConditionModel".
        config: &'static str,
        /// The option's name in config.json.
        option: String,
        /// What is wrong, as the rest of a sentence that begins with the option.
        problem: String,
    },

    /// An error in the configuration that a file holds.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ModelError>,
    },

    /// A tensor or another argument that a network cannot take.
    #[error("{what} {problem}")]
    Input {
        /// Which argument, like "`timestep_cond` of UNet2DConditionModel".
        what: String,
        /// What it is and what is wanted, as the rest of a sentence that begins with `what`.
        problem: String,
    },

    /// A scheduler's configuration, or what a sampler was asked for.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),

    /// A file of low-rank adapters.
    #[error(transparent)]
    Lora(#[from] LoraError),

    /// LibTorch refused.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

impl From<tch::TchError> for ModelError {
    fn from(error: tch::TchError) -> Self {
        ModelError::Torch(error.into())
    }
}

impl ModelError {
    /// An error of the operating system while `doing` something to `path`.
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        ModelError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// A file that does not hold what it should; `problem` goes on after the path.
    pub fn malformed(path: &Path, problem: impl Display) -> Self {
        ModelError::Malformed {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// An option that cannot be used; `problem` goes on after the option's name.
    pub fn option(config: &'static str, option: &str, problem: impl Display) -> Self {
        ModelError::Option {
            config,
            option: option.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// An argument that cannot be used; `problem` goes on after its name.
    pub fn input(what: impl Display, problem: impl Display) -> Self {
        ModelError::Input {
            what: what.to_string(),
            problem: problem.to_string(),
        }
    }

    /// The same error, with the file in which it was found.
    pub fn in_file(self, path: &Path) -> Self {
        ModelError::InFile {
            path: path.to_owned(),
            source: Box::new(self),
        }
    }
}
