//! Tensors that one rank has and others want. They travel as bytes, many in one parcel, so that many small ones take few
//! operations.
//!
//! It knows nothing of what they are.

use std::collections::VecDeque;
use std::ops::Range;

use fewstep_models::params::Layout;
use libtorch_ext::group::Work;
use libtorch_ext::{NoGrad, TorchError, catch};
use tch::{Device, Kind, Tensor};

use super::Ranks;
use crate::error::TrainError;
use crate::share::sizes;

/// Bytes of a parcel, unless one tensor has more.
const PARCEL: i64 = 25 * 1024 * 1024;
/// How many are on their way at once.
const UNDER_WAY: usize = 2;

/// A tensor on its way to all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freight {
    /// The rank that has it.
    pub(super) from: u32,
    pub(super) bytes: i64,
}

/// Freight of one rank's, by numbers, in one tensor of bytes.
struct Parcel {
    numbers: Range<usize>,
    bytes: Tensor,
    work: Work,
}

impl Ranks {
    /// Brings each rank's `freight` to all others, over `device`. All ranks have the same list. `pack` gives what is this
    /// rank's, by its number; `unpack` gets what is not, as bytes that are gone when it returns.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(super) fn ship(
        &mut self,
        device: Device,
        freight: &[Freight],
        pack: impl Fn(usize) -> Result<Tensor, TrainError>,
        mut unpack: impl FnMut(usize, &Tensor) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        let own = self.seat.rank;
        let mut under_way: VecDeque<Parcel> = VecDeque::new();
        let mut left: VecDeque<Range<usize>> = parcels(freight, PARCEL).into();
        while !left.is_empty() || !under_way.is_empty() {
            if under_way.len() < UNDER_WAY
                && let Some(numbers) = left.pop_front()
            {
                let from = freight[numbers.start].from;
                let bytes = match from == own {
                    true => {
                        let parts: Result<Vec<Tensor>, TrainError> =
                            numbers.clone().map(|number| bytes_of(&pack(number)?)).collect();
                        let parts = parts?;
                        catch(|| Tensor::cat(&parts, 0).to_device(device))?
                    }
                    false => {
                        let length: i64 = freight[numbers.clone()].iter().map(|one| one.bytes).sum();
                        Tensor::f_empty([length], (Kind::Uint8, device)).map_err(TorchError::from)?
                    }
                };
                let work = self.group()?.broadcast(&bytes, from);
                let work = work.map_err(|error| self.sentinel.culprit(error.text()))?;
                under_way.push_back(Parcel { numbers, bytes, work });
                continue;
            }
            let Some(parcel) = under_way.pop_front() else {
                continue;
            };
            self.wait(&parcel.work)?;
            if freight[parcel.numbers.start].from == own {
                continue;
            }
            let mut start = 0;
            for number in parcel.numbers {
                let length = freight[number].bytes;
                let part = parcel
                    .bytes
                    .f_narrow(0, start, length)
                    .map_err(TorchError::from)?;
                unpack(number, &part)?;
                start += length;
            }
        }
        Ok(())
    }
}

/// The most that parcels of a network's parameters take at once, with so many bytes a number.
pub(crate) fn bytes_at_most(layout: &Layout, number: u64) -> u64 {
    let sizes = sizes(layout);
    let largest = sizes.iter().max().map_or(0, |size| number * size);
    let all: u64 = sizes.iter().map(|size| number * size).sum();
    all.min(UNDER_WAY as u64 * largest.max(PARCEL.unsigned_abs()))
}

/// Numbers that follow one another and share a parcel: of one rank's, and no more than `most` bytes.
fn parcels(freight: &[Freight], most: i64) -> Vec<Range<usize>> {
    let mut parcels: Vec<Range<usize>> = Vec::new();
    let mut held = 0;
    for (number, one) in freight.iter().enumerate() {
        match parcels.last_mut() {
            Some(last) if freight[last.start].from == one.from && held + one.bytes <= most => {
                last.end = number + 1;
                held += one.bytes;
            }
            _ => {
                parcels.push(number..number + 1);
                held = one.bytes;
            }
        }
    }
    parcels
}

/// The bytes of a tensor, sharing its memory.
pub(super) fn bytes_of(tensor: &Tensor) -> Result<Tensor, TrainError> {
    let bytes = tensor
        .detach()
        .f_contiguous()
        .and_then(|tensor| tensor.f_view([-1]))
        .and_then(|flat| flat.f_view_dtype(Kind::Uint8));
    Ok(bytes.map_err(TorchError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_are_of_one_rank_and_not_too_large() {
        let list = [(0, 3), (0, 4), (0, 2), (1, 1), (1, 20), (0, 1), (0, 9)];
        let freight = list.map(|(from, bytes)| Freight { from, bytes });
        assert_eq!(parcels(&freight, 9), [0..3, 3..4, 4..5, 5..6, 6..7]);
        assert_eq!(parcels(&freight, 10), [0..3, 3..4, 4..5, 5..7]);
        assert_eq!(parcels(&[], 9), [] as [Range<usize>; 0]);
    }

    #[test]
    fn bytes_are_the_tensors_own() {
        let tensor = Tensor::zeros([2, 3], (Kind::BFloat16, Device::Cpu));
        let mut bytes = bytes_of(&tensor).unwrap();
        assert_eq!(bytes.size(), [12]);
        let _ = bytes.fill_(0x3f);
        assert_ne!(tensor.double_value(&[1, 2]), 0.0);
        assert_eq!(bytes_of(&Tensor::from(1f32)).unwrap().size(), [4]);
    }
}
