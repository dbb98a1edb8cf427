//! What keeps ranks from training together, in a sentence.

use std::time::Duration;

use libtorch_ext::TorchError;
use libtorch_ext::store::StoreError;

/// Why ranks do not find one another, or lost one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RanksError {
    /// The environment does not say what it must.
    #[error("the ranks of this run: {0}")]
    Environment(String),
    /// The rendezvous cannot be served or reached.
    #[error("rank {rank} has no rendezvous with the others: {source}{}", remedy(.source))]
    NoRendezvous {
        /// This rank.
        rank: u32,
        /// Why not.
        source: StoreError,
    },
    /// Ranks that do not do the same.
    #[error("rank {rank} does not run what rank 0 runs: {}; give all ranks the same program and options", .differences.join("; "))]
    Differ {
        /// The one that differs.
        rank: u32,
        /// In what, with both values.
        differences: Vec<String>,
    },
    /// Another rank ended with an error.
    #[error("rank {rank} ended: {reason}")]
    Ended {
        /// Which.
        rank: u32,
        /// What it said.
        reason: String,
    },
    /// A rank that gives no sign of life.
    #[error("rank {rank} is gone or hangs: it gave no sign of life for {} s (--rank_timeout)", .silence.as_secs())]
    Silent {
        /// Which.
        rank: u32,
        /// For how long.
        silence: Duration,
    },
    /// A rank whose connections broke.
    #[error("{who} is gone: {said}")]
    Gone {
        /// Who.
        who: String,
        /// What LibTorch says.
        said: String,
    },
    /// Another rank has no more data, for a reason of which it has not told yet.
    #[error("the data of another rank gave out")]
    DataGaveOut,
    /// LibTorch refused to join or to begin an operation.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

fn remedy(source: &StoreError) -> &'static str {
    match source {
        StoreError::BusyPort { .. } => " (MASTER_PORT, or --port of `fewstep launch`)",
        StoreError::Unreachable { .. } => {
            "; is rank 0 running there, and does a firewall let others in (MASTER_ADDR, MASTER_PORT)?"
        }
        StoreError::Missing { .. } => "; are all ranks started, with the same MASTER_ADDR and MASTER_PORT?",
        _ => "",
    }
}
