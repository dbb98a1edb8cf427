//! The tensors of one module, read and checked.

use tch::{Kind, Tensor};

use super::assemble::Names;
use super::form::{Reason, Unloadable};
use super::module::check_shapes;
use crate::weights::{ModelError, TensorFile};

/// What a file holds of one module.
#[derive(Debug)]
pub(super) struct Matrices {
    pub(super) a: Tensor,
    pub(super) b: Tensor,
    /// Where a tensor states it.
    pub(super) alpha: Option<f64>,
}

impl Matrices {
    /// Reads them; or says which tensor cannot be used, and why.
    ///
    /// # Errors
    /// The file holds a dtype that is not supported.
    pub(super) fn read(file: &TensorFile, names: &Names) -> Result<Result<Self, Unloadable>, ModelError> {
        let (a, b) = match (&names.a, &names.b, &names.alpha) {
            (Some(a), Some(b), _) => (a, b),
            (Some(one), None, _) | (None, Some(one), _) => {
                return refused(
                    one,
                    "has no counterpart: a LoRA needs the map down and the map up",
                );
            }
            (None, None, alpha) => {
                let alpha = alpha.as_deref().unwrap_or_default();
                return refused(alpha, "is the alpha of a module that has no matrices");
            }
        };
        if let Err(problem) = check_shapes(file.shape(a), file.shape(b)) {
            return refused(a, problem);
        }
        let mut read = Matrices {
            a: file.tensor(a)?,
            b: file.tensor(b)?,
            alpha: None,
        };
        for (key, tensor) in [(a, &read.a), (b, &read.b)] {
            let kind = tensor.kind();
            if !matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16) {
                return refused(key, format!("is {kind:?}, but must be floating point"));
            }
        }
        if let Some(key) = &names.alpha {
            read.alpha = number(&file.tensor(key)?);
            if read.alpha.is_none() {
                return refused(key, "is an alpha, but not one finite number");
            }
        }
        Ok(Ok(read))
    }
}

fn refused(key: &str, sentence: impl Into<String>) -> Result<Result<Matrices, Unloadable>, ModelError> {
    Ok(Err(Unloadable {
        key: key.to_owned(),
        reason: Reason::other(sentence),
    }))
}

fn number(tensor: &Tensor) -> Option<f64> {
    let value = (tensor.numel() == 1).then(|| tensor.view([1]).double_value(&[0]))?;
    value.is_finite().then_some(value)
}
