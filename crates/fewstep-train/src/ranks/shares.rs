//! What ranks do for one another where each keeps only a share of the run's state (`--zero 1`): they begin with what rank
//! 0 has, give all others what they have updated, and hand rank 0 everything for a checkpoint.
//!
//! Gradients are summed as without shares, so that norm and update have the same bits: what is saved is memory.

use libtorch_ext::{TorchError, span};
use tch::{Device, Tensor};

use super::parcels::{Freight, bytes_of};
use super::{Ranks, Team};
use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::precision::Mastered;
use crate::saved::Trained;
use crate::share::Kept;
use crate::snapshot::Snapshot;
use crate::student::Unets;
use fewstep_models::params::Weights;

impl Ranks {
    /// Gives all ranks rank 0's student and average.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn share_weights(&mut self, unets: &Unets) -> Result<(), TrainError> {
        let masters = [Some(&unets.student), unets.target.as_ref()];
        let masters = masters.into_iter().flatten().map(Mastered::master);
        let masters: Vec<&Tensor> = masters.flat_map(Weights::tensors).collect();
        let of = |tensor: &&Tensor| Freight {
            from: 0,
            bytes: (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64,
        };
        let freight: Vec<Freight> = masters.iter().map(of).collect();
        self.ship(
            unets.student.master().device(),
            &freight,
            |number| Ok(masters[number].shallow_clone()),
            |number, bytes| fill(masters[number], bytes),
        )?;
        unets.student.refresh()?;
        match &unets.target {
            Some(target) => target.refresh(),
            None => Ok(()),
        }
    }

    /// Gives all ranks their shares of the optimiser's state, which rank 0 has `stored`: the tensors of
    /// [`AdamW::whole_state`].
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn share_state(&mut self, optimizer: &AdamW, stored: &[Tensor]) -> Result<(), TrainError> {
        let state = optimizer.whole_state();
        let freight = state.iter().map(|kept| Freight {
            from: 0,
            bytes: kept.bytes(),
        });
        self.ship(
            optimizer.device(),
            &freight.collect::<Vec<_>>(),
            |number| Ok(stored[number].shallow_clone()),
            |number, bytes| match &state[number].tensor {
                Some(own) => fill(own, bytes),
                None => Ok(()),
            },
        )
    }
}

impl Team {
    /// Gives all ranks what each has updated: the weights that networks compute with.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn spread(&mut self, unets: &Unets, optimizer: &AdamW) -> Result<(), TrainError> {
        let share = optimizer.share();
        if !share.is_part() {
            return Ok(());
        }
        let _span = span(c"give updates to ranks");
        let networks = [Some(&unets.student), unets.target.as_ref()];
        let mut owned: Vec<(u32, &Tensor)> = Vec::new();
        for network in networks.into_iter().flatten() {
            let tensors = network.compute().tensors().iter().enumerate();
            owned.extend(tensors.filter_map(|(place, tensor)| Some((share.owner(place)?, tensor))));
        }
        // Ranks take turns only once.
        owned.sort_by_key(|(owner, _)| *owner);
        let of = |(from, tensor): &(u32, &Tensor)| Freight {
            from: *from,
            bytes: (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64,
        };
        let freight: Vec<Freight> = owned.iter().map(of).collect();
        self.ranks.ship(
            unets.student.compute().device(),
            &freight,
            |number| Ok(owned[number].1.shallow_clone()),
            |number, bytes| fill(owned[number].1, bytes),
        )
    }

    /// What is trained, for rank 0, which lacks the others' shares of it. Other ranks get nothing.
    ///
    /// # Errors
    /// A rank that is gone, or not enough memory.
    pub(crate) fn trained(
        &mut self,
        unets: &Unets,
        optimizer: &AdamW,
    ) -> Result<Option<Trained>, TrainError> {
        let device = unets.student.master().device();
        let mut join = |weights: &Mastered| {
            let joined = self.gather(device, weights.kept(optimizer.share()))?;
            let layout = weights.master().layout();
            Ok::<_, TrainError>(joined.map(|named| {
                let tensors = named.into_iter().map(|(_, tensor)| tensor).collect();
                Weights::new(layout.clone(), tensors)
            }))
        };
        let student = join(&unets.student)?;
        let target = unets.target.as_ref().map(&mut join).transpose()?.flatten();
        Ok(student.map(|student| Trained::with(unets, student, target)))
    }

    /// The same with the optimiser's state.
    ///
    /// # Errors
    /// A rank that is gone, or not enough memory.
    pub(crate) fn snapshot(
        &mut self,
        unets: &Unets,
        optimizer: &AdamW,
    ) -> Result<Option<Snapshot>, TrainError> {
        let trained = self.trained(unets, optimizer)?;
        let state = self.gather(unets.student.master().device(), optimizer.whole_state())?;
        Ok(trained
            .zip(state)
            .map(|(trained, state)| Snapshot::joined(trained, state)))
    }

    /// All of a list, of which each rank has a share, for rank 0: what it lacks is put on the host.
    fn gather(
        &mut self,
        device: Device,
        list: Vec<Kept>,
    ) -> Result<Option<Vec<(String, Tensor)>>, TrainError> {
        let mut lacking: Vec<(u32, usize)> = (list.iter().enumerate())
            .filter_map(|(place, kept)| Some((kept.owner.filter(|owner| *owner != 0)?, place)))
            .collect();
        lacking.sort_unstable();
        let freight: Vec<Freight> = lacking
            .iter()
            .map(|&(from, place)| Freight {
                from,
                bytes: list[place].bytes(),
            })
            .collect();
        let leads = self.ranks.seat.rank == 0;
        let mut got: Vec<Option<Tensor>> = list.iter().map(|_| None).collect();
        self.ranks.ship(
            device,
            &freight,
            |number| match &list[lacking[number].1].tensor {
                Some(tensor) => Ok(tensor.shallow_clone()),
                None => Err(TorchError::new("a rank's share is not its own").into()),
            },
            |number, bytes| {
                let place = lacking[number].1;
                if leads {
                    let kept = &list[place];
                    let tensor = Tensor::f_empty(&kept.shape, (kept.kind, Device::Cpu));
                    let tensor = tensor.map_err(TorchError::from)?;
                    fill(&tensor, bytes)?;
                    got[place] = Some(tensor);
                }
                Ok(())
            },
        )?;
        if !leads {
            return Ok(None);
        }
        let all = list.into_iter().zip(got);
        Ok(Some(
            all.filter_map(|(kept, got)| Some((kept.name, kept.tensor.or(got)?)))
                .collect(),
        ))
    }
}

/// Writes bytes into a contiguous tensor of as many.
fn fill(tensor: &Tensor, bytes: &Tensor) -> Result<(), TrainError> {
    bytes_of(tensor)?.f_copy_(bytes).map_err(TorchError::from)?;
    Ok(())
}
