//! The tensors that `fewstep debug` reads and writes.
//!
//! It checks names, dtypes and numbers of dimensions; what sizes a network wants, the network knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fewstep_models::weights::{read_tensors, write_tensors};
use tch::{Kind, Tensor};

use crate::failure::Usage;
use crate::terminal;

/// The tensors of an input file, to be taken out by name.
#[derive(Debug)]
pub(super) struct Inputs {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Inputs {
    /// All tensors of a safetensors file.
    ///
    /// # Errors
    /// No file was named, or it cannot be read.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let path =
            path.ok_or_else(|| Usage::error("--inputs is missing: name a safetensors file with the inputs"))?;
        Ok(Inputs {
            path: path.to_owned(),
            tensors: read_tensors(path)?,
        })
    }

    /// Takes out floating-point numbers, as f32. `shape` is for the message: `[B, 4, h, w]`, and as many
    /// dimensions are wanted.
    ///
    /// # Errors
    /// It is missing, holds integers, or has another number of dimensions.
    pub(super) fn floats(&mut self, name: &str, shape: &[&str]) -> anyhow::Result<Tensor> {
        self.optional_floats(name, shape)?
            .with_context(|| self.missing(name, shape))
    }

    /// The same for a tensor that may be absent.
    ///
    /// # Errors
    /// It holds integers, or has another number of dimensions.
    pub(super) fn optional_floats(&mut self, name: &str, shape: &[&str]) -> anyhow::Result<Option<Tensor>> {
        let Some(tensor) = self.take(name, shape)? else {
            return Ok(None);
        };
        anyhow::ensure!(
            matches!(
                tensor.kind(),
                Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16
            ),
            "{}: tensor {name} is {:?} and must be floating-point numbers",
            self.path.display(),
            tensor.kind()
        );
        Ok(Some(tensor.to_kind(Kind::Float)))
    }

    /// Takes out whole numbers, as i64.
    ///
    /// # Errors
    /// It is missing, holds fractions, or has another number of dimensions.
    pub(super) fn integers(&mut self, name: &str, shape: &[&str]) -> anyhow::Result<Tensor> {
        let tensor = self
            .take(name, shape)?
            .with_context(|| self.missing(name, shape))?;
        let whole = tensor.to_kind(Kind::Int64);
        anyhow::ensure!(
            whole.to_kind(Kind::Double).equal(&tensor.to_kind(Kind::Double)),
            "{}: tensor {name} is {:?} and must be whole numbers (i64)",
            self.path.display(),
            tensor.kind()
        );
        Ok(whole)
    }

    /// Says which tensors nobody took: they have no part in the result.
    pub(super) fn finish(self) {
        if !self.tensors.is_empty() {
            let names = self.tensors.into_keys().collect::<Vec<_>>().join(", ");
            terminal::note(&format!(
                "note: {} also holds {names}, not used here",
                self.path.display()
            ));
        }
    }

    fn take(&mut self, name: &str, shape: &[&str]) -> anyhow::Result<Option<Tensor>> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Ok(None);
        };
        anyhow::ensure!(
            tensor.dim() == shape.len() && tensor.numel() > 0,
            "{}: tensor {name} has shape {:?} and must be {}",
            self.path.display(),
            tensor.size(),
            bracketed(shape)
        );
        Ok(Some(tensor))
    }

    fn missing(&self, name: &str, shape: &[&str]) -> String {
        let there = self
            .tensors
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "{}: there is no tensor {name} {}; there is {there}",
            self.path.display(),
            bracketed(shape)
        )
    }
}

fn bracketed(shape: &[&str]) -> String {
    format!("[{}]", shape.join(", "))
}

/// Writes the results: floating-point numbers as f32 whatever they were computed in, so that every reader
/// can read them.
///
/// # Errors
/// A path that cannot be written.
pub(super) fn write<'a>(
    path: &Path,
    outputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> anyhow::Result<()> {
    let as_f32 = |(name, tensor): (&'a str, &Tensor)| match tensor.is_floating_point() {
        true => (name, tensor.to_kind(Kind::Float)),
        false => (name, tensor.shallow_clone()),
    };
    let outputs = outputs.into_iter().map(as_f32).collect::<Vec<_>>();
    write_tensors(
        path,
        outputs.iter().map(|(name, tensor)| (*name, tensor)),
        &BTreeMap::new(),
    )?;
    Ok(())
}
