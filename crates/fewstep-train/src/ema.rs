//! The target network theta-: a moving average of the student (the last lines of Algorithm 1's loop).

use libtorch_ext::{NoGrad, catch, lists};
use tch::Tensor;

use crate::error::TrainError;
use crate::precision::Mastered;

/// theta-, and how slowly it follows: theta- <- mu theta- + (1 - mu) theta, in f32.
#[derive(Debug, Clone, Copy)]
pub struct Average<'a> {
    /// theta-, whose compute copy is written too.
    pub target: &'a Mastered,
    /// mu.
    pub mu: f64,
}

impl Average<'_> {
    /// How far it moves towards the student, from 0 to 1.
    pub(crate) fn weight(&self) -> f64 {
        1.0 - self.mu
    }

    /// Moves the parameters at these places, in place, unless the scalar `skip` is 1: then the student was not changed
    /// either.
    ///
    /// # Errors
    /// What LibTorch refuses: networks of different shapes.
    pub(crate) fn update(
        &self,
        student: &Mastered,
        places: &[usize],
        skip: &Tensor,
    ) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        let weight = catch(|| (1.0 - skip) * self.weight())?;
        let [target, student] = [self.target, student].map(|weights| -> Vec<Tensor> {
            let tensors = weights.master().tensors();
            places
                .iter()
                .filter_map(|&place| Some(tensors.get(place)?.shallow_clone()))
                .collect()
        });
        lists::lerp_by(&target, &student, &weight)?;
        self.target.refresh()
    }
}
