//! Who updates which parameter: with `--zero 1` each rank its share of them, else everybody all.
//!
//! It is a function of the sizes and the ranks alone, so that all ranks know it and no file needs to.

use fewstep_data::Part;
use fewstep_models::params::Layout;

use tch::{Kind, Tensor};

use crate::config::Config;

/// The parameters that a rank updates, and keeps the optimiser's state of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// For each parameter the rank that has it; none where everybody has all.
    owners: Option<Vec<u32>>,
    parameters: usize,
    rank: u32,
}

impl Share {
    /// This rank's share in a run with these options.
    pub(crate) fn of(layout: &Layout, config: &Config) -> Self {
        match config.is_sharded() {
            true => Share::among(&sizes(layout), config.part),
            false => Share::whole(layout.specs().len()),
        }
    }

    /// All of so many parameters.
    pub(crate) fn whole(parameters: usize) -> Self {
        Share {
            owners: None,
            parameters,
            rank: 0,
        }
    }

    /// Parameters of these sizes among ranks, each whole: the largest first, to whoever has least so far.
    fn among(sizes: &[u64], part: Part) -> Self {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|&place| (std::cmp::Reverse(sizes[place]), place));
        let mut held = vec![0u64; usize::try_from(part.ranks).unwrap_or(1).max(1)];
        let mut owners = vec![0; sizes.len()];
        for place in order {
            let least = (0..held.len()).min_by_key(|&rank| held[rank]).unwrap_or(0);
            held[least] = held[least].saturating_add(sizes[place]);
            owners[place] = least as u32;
        }
        Share {
            owners: Some(owners),
            parameters: sizes.len(),
            rank: u32::try_from(part.rank).unwrap_or(0),
        }
    }

    /// Whether ranks have shares of their own.
    pub(crate) fn is_part(&self) -> bool {
        self.owners.is_some()
    }

    /// Whether the parameter at this place is in it.
    pub(crate) fn has(&self, place: usize) -> bool {
        self.owner(place).is_none_or(|owner| owner == self.rank)
    }

    /// The rank that has the parameter at this place; none where everybody has it.
    pub(crate) fn owner(&self, place: usize) -> Option<u32> {
        self.owners.as_ref()?.get(place).copied()
    }

    /// The places of its parameters.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.parameters).filter(|&place| self.has(place))
    }
}

/// A tensor of a run's state, and who has it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
    /// The rank that has it; none where everybody does.
    pub(crate) owner: Option<u32>,
    /// The tensor itself, shared, where this rank has it.
    pub(crate) tensor: Option<Tensor>,
}

impl Kept {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> i64 {
        self.shape.iter().product::<i64>() * self.kind.elt_size_in_bytes() as i64
    }
}

/// The numbers of each parameter.
pub(crate) fn sizes(layout: &Layout) -> Vec<u64> {
    let of = |shape: &[i64]| {
        shape
            .iter()
            .fold(1, |n: u64, &size| n.saturating_mul(size.unsigned_abs()))
    };
    layout.specs().iter().map(|spec| of(&spec.shape)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_has_one_owner_and_shares_are_alike() {
        let sizes = [1, 50, 3, 50, 7, 7, 29, 13, 2];
        let shares = [0, 1, 2].map(|rank| Share::among(&sizes, Part { rank, ranks: 3 }));
        for place in 0..sizes.len() {
            assert_eq!(shares.iter().filter(|share| share.has(place)).count(), 1);
            let owner = shares[0].owner(place).unwrap();
            assert!(shares.iter().all(|share| share.owner(place) == Some(owner)));
            assert!(shares[owner as usize].has(place));
        }
        let numbers = shares
            .each_ref()
            .map(|share| share.places().map(|place| sizes[place]).sum::<u64>());
        assert_eq!(numbers, [53, 53, 56]);
        assert!(Share::whole(9).places().eq(0..9));
        // More ranks than parameters: some have none.
        assert_eq!(Share::among(&[4], Part { rank: 1, ranks: 2 }).places().count(), 0);
    }
}
