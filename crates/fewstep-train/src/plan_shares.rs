//! What a plan says of ranks that each keep a share of the run's state (`--zero 1`), and of what all of them save.

use tch::{Device, Kind};

use super::{COLLECTING, Phase, Planned, elements};
use crate::optimizer::moments_bytes;
use crate::ranks::parcels_bytes;
use crate::share::{Share, sizes};

impl Planned<'_> {
    /// What ranks take to give each other their shares of the state.
    pub(super) fn sharing_phases(&self) -> Vec<Phase> {
        if !self.share.is_part() {
            return Vec::new();
        }
        let trained = self.architectures.trained();
        let compute = self.config.run.mixed_precision.kind().elt_size_in_bytes() as u64;
        let lacking = self.lacking_masters() + self.collected_by_first();
        vec![
            Phase {
                what: "updates of other ranks",
                bytes: parcels_bytes(trained, compute),
            },
            Phase {
                what: COLLECTING,
                bytes: lacking + parcels_bytes(trained, 4),
            },
        ]
    }

    /// What rank 0 collects for a checkpoint, beside the masters with which all begin. On the CPU it lies where the networks
    /// do, else on the host.
    pub(super) fn collected_by_first(&self) -> u64 {
        match self.share.is_part() && self.device == Device::Cpu && self.config.part.rank == 0 {
            true => self.saved_bytes() - self.own_saved_bytes() - self.lacking_masters(),
            false => 0,
        }
    }

    /// Whether f32 masters are kept by shares: they are where networks compute with copies.
    pub(super) fn masters_are_shared(&self) -> bool {
        self.share.is_part() && self.config.run.mixed_precision.kind() != Kind::Float
    }

    /// The numbers of the parameters that this rank updates.
    pub(super) fn own_elements(&self) -> u64 {
        let sizes = sizes(self.architectures.trained());
        self.share.places().map(|place| sizes[place]).sum()
    }

    /// f32 masters that other ranks keep.
    pub(super) fn lacking_masters(&self) -> u64 {
        match self.masters_are_shared() {
            true => 4 * self.roles() * (elements(self.architectures.trained()) - self.own_elements()),
            false => 0,
        }
    }

    /// The student, and its average where there is one.
    pub(super) fn roles(&self) -> u64 {
        1 + u64::from(self.config.ema_decay().is_some())
    }

    /// The tensors of a checkpoint.
    pub(super) fn saved_bytes(&self) -> u64 {
        let trained = self.architectures.trained();
        let all = Share::whole(trained.specs().len());
        4 * self.roles() * elements(trained) + moments_bytes(trained, &all, &self.config.optimizer)
    }

    /// Those of them that this rank has.
    pub(super) fn own_saved_bytes(&self) -> u64 {
        let trained = self.architectures.trained();
        let masters = 4 * self.roles() * elements(trained) - self.lacking_masters();
        masters + moments_bytes(trained, &self.share, &self.config.optimizer)
    }
}
