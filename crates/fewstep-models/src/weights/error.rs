//! The crate's error: what is wrong with a file, a configuration or an input, where, and what to do.
//!
//! It knows the kinds of trouble, not the networks that meet them.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use libtorch_ext::TorchError;

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

/// How the tensors of a file differ from a network's.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors that the network has and the file lacks: name and wanted shape.
    pub missing: Vec<(String, Vec<i64>)>,
    /// Tensors that the file has and the network lacks: name and stored shape.
    pub unexpected: Vec<(String, Vec<i64>)>,
    /// Tensors of another shape: name, stored shape, wanted shape.
    pub reshaped: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Tensors whose numbers are not floating point: name and stored dtype.
    pub retyped: Vec<(String, String)>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.reshaped.is_empty()
            && self.retyped.is_empty()
    }
}

/// How many tensors of each kind are named; a wholly wrong file has hundreds.
const LISTED: usize = 12;

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self
            .missing
            .iter()
            .map(|(name, shape)| format!("{name} {shape:?}"));
        let unexpected = self
            .unexpected
            .iter()
            .map(|(name, shape)| format!("{name} {shape:?}"));
        let reshaped = self
            .reshaped
            .iter()
            .map(|(name, stored, wanted)| format!("{name} is {stored:?}, wanted {wanted:?}"));
        let retyped = self
            .retyped
            .iter()
            .map(|(name, dtype)| format!("{name} is {dtype}, wanted floating point"));
        let parts = [
            listed("missing", missing),
            listed("unexpected", unexpected),
            listed("of the wrong shape", reshaped),
            listed("of the wrong dtype", retyped),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

fn listed(what: &str, items: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = items.len();
    if count == 0 {
        return None;
    }
    let names: Vec<_> = items.take(LISTED).collect();
    let more = match count.saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("{count} {what} ({}{more})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_mismatch_is_cut_and_counted() {
        let mismatch = Mismatch {
            missing: (0..20).map(|i| (format!("a.{i}"), vec![1, 2])).collect(),
            reshaped: vec![("b".into(), vec![3], vec![4, 5])],
            ..Mismatch::default()
        };
        let text = mismatch.to_string();
        assert!(text.starts_with("20 missing (a.0 [1, 2], a.1 [1, 2]"), "{text}");
        assert!(
            text.contains("and 8 more); 1 of the wrong shape (b is [3], wanted [4, 5])"),
            "{text}"
        );
    }
}
