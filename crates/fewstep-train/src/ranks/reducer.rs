//! The gradients of all ranks, summed: in buckets, each on its way while the backward pass still makes the next.
//!
//! Buckets are filled from the last weights to the first, as a backward pass comes by them. All ranks send them in one
//! order, whichever is full first.

use fewstep_models::params::Weights;
use libtorch_ext::backward::backward_each;
use libtorch_ext::group::{Group, Work};
use libtorch_ext::{NoGrad, TorchError, catch};
use tch::{Kind, Tensor};

use crate::error::TrainError;
use crate::gradients::Gradients;

/// Numbers in a bucket, unless one weight has more: 25 MB, as DDP has it.
const NUMBERS: i64 = 25 * 1024 * 1024 / 4;

/// The f32 gradients of an update, in few long tensors.
#[derive(Debug)]
pub(crate) struct Reducer {
    buckets: Vec<Bucket>,
    /// For each weight the number of its bucket, and its part of it in the weight's shape.
    places: Vec<(usize, Tensor)>,
    /// The sums that are under way, in the order of the buckets.
    works: Vec<Work>,
}

#[derive(Debug)]
struct Bucket {
    numbers: Tensor,
    /// How many weights it has, and how many of them still have to be added in this pass.
    weights: usize,
    missing: usize,
}

impl Reducer {
    /// Buckets for the gradients of `weights`.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn new(weights: &Weights) -> Result<Self, TrainError> {
        Reducer::with_buckets_of(NUMBERS, weights)
    }

    fn with_buckets_of(most: i64, weights: &Weights) -> Result<Self, TrainError> {
        let shapes: Vec<Vec<i64>> = weights.tensors().iter().map(Tensor::size).collect();
        let size = |weight: usize| shapes[weight].iter().product::<i64>();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut full = most;
        for weight in (0..shapes.len()).rev() {
            if full + size(weight) > most {
                groups.push(Vec::new());
                full = 0;
            }
            full += size(weight);
            if let Some(group) = groups.last_mut() {
                group.push(weight);
            }
        }
        catch(|| {
            let mut places: Vec<Option<(usize, Tensor)>> = shapes.iter().map(|_| None).collect();
            let mut buckets = Vec::new();
            for (number, group) in groups.iter().enumerate() {
                let length: i64 = group.iter().map(|&weight| size(weight)).sum();
                let numbers = Tensor::zeros([length], (Kind::Float, weights.device()));
                let mut start = 0;
                for &weight in group {
                    let part = numbers.narrow(0, start, size(weight)).view(&*shapes[weight]);
                    places[weight] = Some((number, part));
                    start += size(weight);
                }
                buckets.push(Bucket {
                    numbers,
                    weights: group.len(),
                    missing: 0,
                });
            }
            Reducer {
                buckets,
                places: places.into_iter().flatten().collect(),
                works: Vec::new(),
            }
        })
        .map_err(TrainError::from)
    }

    /// Begins an update: all sums are 0.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn begin(&mut self) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        self.works.clear();
        for bucket in &mut self.buckets {
            bucket.missing = bucket.weights;
            let _ = bucket.numbers.f_zero_().map_err(TorchError::from)?;
        }
        Ok(())
    }

    /// Adds the gradients of `loss` with respect to `weights`. After the `last` micro-batch each bucket goes to the
    /// other ranks of `group` as soon as it and those before it are full.
    ///
    /// # Errors
    /// What LibTorch refuses, or a rank that is gone.
    pub(crate) fn add(
        &mut self,
        loss: &Tensor,
        weights: &Weights,
        last: Option<&mut Group>,
    ) -> Result<(), TrainError> {
        let mut group = last;
        backward_each(loss, weights.tensors(), |weight, gradient| {
            let (bucket, part) = &mut self.places[weight];
            let _ = part.f_add_(&gradient).map_err(TorchError::from)?;
            let bucket = *bucket;
            match &mut group {
                None => Ok(()),
                Some(group) => {
                    self.buckets[bucket].missing -= 1;
                    send(&self.buckets, &mut self.works, group, false)
                }
            }
        })?;
        match group {
            // Weights that the loss does not depend on never came.
            Some(group) => Ok(send(&self.buckets, &mut self.works, group, true)?),
            None => Ok(()),
        }
    }

    /// Sends to `group` what is there, as a rank does that has no more to add while others wait for it.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn send_rest(&mut self, group: &mut Group) -> Result<(), TrainError> {
        Ok(send(&self.buckets, &mut self.works, group, true)?)
    }

    /// The operations that must have ended before the sums are those of all ranks.
    pub(crate) fn take_works(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.works)
    }

    /// The sums, sharing memory with the buckets.
    pub(crate) fn gradients(&self) -> Gradients {
        Gradients::of(self.places.iter().map(|(_, part)| part.shallow_clone()).collect())
    }
}

/// Sends the next buckets that are full, or all that are left.
fn send(buckets: &[Bucket], works: &mut Vec<Work>, group: &mut Group, all: bool) -> Result<(), TorchError> {
    while let Some(bucket) = buckets.get(works.len())
        && (all || bucket.missing == 0)
    {
        works.push(group.all_reduce(&bucket.numbers)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_models::params::{Init, Layout};
    use libtorch_ext::group::{Member, Network, Patience, Waited};
    use libtorch_ext::store::Store;
    use std::time::Duration;
    use tch::Device;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn weights_share_buckets_from_the_last_to_the_first() {
        let (_, layout) = Layout::build(|root| {
            for (name, size) in [("a", 3), ("b", 9), ("c", 2), ("d", 2), ("unused", 1)] {
                root.param(name, &[size], Init::Ones);
            }
        });
        let weights = Weights::random(&layout, Device::Cpu).trainable();
        let mut reducer = Reducer::with_buckets_of(5, &weights).unwrap();
        let lengths = |reducer: &Reducer| -> Vec<i64> {
            reducer
                .buckets
                .iter()
                .map(|bucket| bucket.numbers.size()[0])
                .collect()
        };
        assert_eq!(lengths(&reducer), [5, 9, 3]);
        let store = Store::serve(0, LONG).unwrap();
        let member = Member { rank: 0, size: 1 };
        let network = Network::Host("127.0.0.1".to_owned());
        let patience = Patience {
            joining: LONG,
            operation: LONG,
        };
        let mut group = Group::join(&store, "x", member, &network, patience).unwrap();
        let loss = || {
            let sums = weights.tensors()[..4].iter().map(|w| w.square().sum(Kind::Float));
            sums.fold(Tensor::from(0f32), |all, sum| all + sum)
        };
        for _ in 0..2 {
            reducer.begin().unwrap();
            reducer.add(&loss(), &weights, None).unwrap();
            assert!(reducer.works.is_empty());
            reducer.add(&loss(), &weights, Some(&mut group)).unwrap();
            let works = reducer.take_works();
            assert_eq!(works.len(), 3);
            for work in &works {
                assert_eq!(work.wait(LONG).unwrap(), Waited::Done);
            }
            let gradients = reducer.gradients();
            // Two micro-batches, each 2 w.
            let got: Vec<f64> = gradients.tensors().iter().map(|g| g.double_value(&[0])).collect();
            assert_eq!(got, [4.0, 4.0, 4.0, 4.0, 0.0]);
        }
    }
}
