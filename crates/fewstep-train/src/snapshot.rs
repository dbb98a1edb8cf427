//! The tensors of a checkpoint: the run's own while it waits, or a copy on the host that is written while it goes
//! on.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_models::weights::write_tensors;
use libtorch_ext::{NoGrad, TorchError};
use tch::{Device, Tensor};

use crate::error::TrainError;
use crate::optimizer::AdamW;
use crate::saved::{Folders, Trained};
use crate::student::Unets;
use crate::sums::Sums;

/// The file with the optimiser's state.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";

/// What a checkpoint holds of tensors.
#[derive(Debug)]
pub(crate) struct Snapshot {
    trained: Trained,
    optimizer: Vec<(String, Tensor)>,
}

impl Snapshot {
    /// The run's own tensors, shared: what is written is what they hold then.
    pub(crate) fn shared(unets: &Unets, optimizer: &AdamW) -> Self {
        Snapshot {
            trained: Trained::of(unets),
            optimizer: optimizer.named_state(),
        }
    }

    /// Tensors that were put together from shares.
    pub(crate) fn joined(trained: Trained, optimizer: Vec<(String, Tensor)>) -> Self {
        Snapshot { trained, optimizer }
    }

    /// A copy of all tensors on the host.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn copied(&self) -> Result<Self, TrainError> {
        let _no_grad = NoGrad::new();
        let copy = |tensor: &Tensor| {
            let copy = tensor.f_to_device_(Device::Cpu, tensor.kind(), false, true);
            Ok::<_, TrainError>(copy.map_err(TorchError::from)?)
        };
        let optimizer = self.optimizer.iter();
        Ok(Snapshot {
            trained: self.trained.try_map(copy)?,
            optimizer: optimizer
                .map(|(name, tensor)| Ok((name.clone(), copy(tensor)?)))
                .collect::<Result<_, TrainError>>()?,
        })
    }

    /// Takes over what the tensors of `other`, a snapshot of the same run, hold now.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub(crate) fn copy_from(&mut self, other: &Snapshot) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        for (own, other) in self.tensors().zip(other.tensors()) {
            own.shallow_clone().f_copy_(other).map_err(TorchError::from)?;
        }
        Ok(())
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors()
            .map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64)
            .sum()
    }

    /// Writes the tensors into a folder. Returns what was written.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(crate) fn save(&self, folder: &Path) -> Result<Sums, TrainError> {
        let mut sums = self.trained.save(folder, Folders::Plain)?;
        let state = self
            .optimizer
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor));
        sums.add(
            OPTIMIZER,
            write_tensors(&folder.join(OPTIMIZER), state, &BTreeMap::new())?,
        );
        Ok(sums)
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let state = self.optimizer.iter().map(|(_, tensor)| tensor);
        self.trained.tensors().chain(state)
    }
}
