//! The target network theta-: a moving average of the student (the last lines of Algorithm 1's loop).

use libtorch_ext::{NoGrad, catch, lists};
use tch::Tensor;

use crate::error::TrainError;
use crate::precision::Mastered;

/// theta- <- mu theta- + (1 - mu) theta, in f32 and in place; then the target's compute copy is written. Where the
/// scalar `skip` is 1 the student was not changed, and the target stays as it is too.
///
/// # Errors
/// What LibTorch refuses: networks of different shapes.
pub fn update(target: &Mastered, student: &Mastered, mu: f64, skip: &Tensor) -> Result<(), TrainError> {
    let _no_grad = NoGrad::new();
    let weight = catch(|| (1.0 - skip) * (1.0 - mu))?;
    lists::lerp_by(target.master().tensors(), student.master().tensors(), &weight)?;
    target.refresh()
}
