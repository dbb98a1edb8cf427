//! The target network theta-: a moving average of the student (the last lines of Algorithm 1's loop).

use libtorch_ext::{NoGrad, lists};

use crate::error::TrainError;
use crate::precision::Mastered;

/// theta- <- mu theta- + (1 - mu) theta, in f32 and in place; then the target's compute copy is written.
///
/// # Errors
/// What LibTorch refuses: networks of different shapes.
pub fn update(target: &Mastered, student: &Mastered, mu: f64) -> Result<(), TrainError> {
    let _no_grad = NoGrad::new();
    lists::lerp(target.master().tensors(), student.master().tensors(), 1.0 - mu)?;
    target.refresh()
}
