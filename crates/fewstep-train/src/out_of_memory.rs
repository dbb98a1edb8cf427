//! What to say when memory runs out, or will: what the run takes by its plan, and what would make it fit.
//!
//! It knows the options that take memory, not how the memory is used.

use std::fmt;

use fewstep_models::weights::ModelError;
use libtorch_ext::TorchError;
use tch::Device;

use crate::config::{Config, GradientCheckpointing, Method, MixedPrecision, Zero};
use crate::device;
use crate::error::TrainError;
use crate::plan::{MemoryPlan, plan};

/// A run that needed more memory than there is.
#[derive(Debug)]
pub struct OutOfMemory {
    /// Where.
    device: Device,
    /// What LibTorch said.
    source: TorchError,
    /// What it was to take, where the options could be read that far.
    plan: Option<MemoryPlan>,
    /// What would make it fit, the mildest first.
    remedies: Vec<String>,
}

/// A run that is planned to take more memory than there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMuch {
    plan: MemoryPlan,
    remedies: Vec<String>,
}

impl TooMuch {
    /// Says so, if the plan of these options does not fit.
    pub fn of(plan: &MemoryPlan, config: &Config) -> Option<Self> {
        let fits = plan.fits();
        (!fits).then(|| TooMuch {
            plan: plan.clone(),
            remedies: remedies(config),
        })
    }
}

impl std::error::Error for OutOfMemory {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The error of a run, with what it would take to fit if it ran out of memory.
pub(crate) fn explain(error: TrainError, config: &Config) -> TrainError {
    let source = match error {
        TrainError::Torch(source) | TrainError::Model(ModelError::Torch(source))
            if source.is_out_of_memory() =>
        {
            source
        }
        other => return other,
    };
    let device = device::resolve(&config.run).unwrap_or(Device::Cpu);
    TrainError::from(Box::new(OutOfMemory {
        device,
        source,
        plan: plan(config).ok(),
        remedies: remedies(config),
    }))
}

/// What takes less memory than these options, the mildest first.
fn remedies(config: &Config) -> Vec<String> {
    let (data, optimizer) = (&config.data, &config.optimizer);
    let mut remedies = Vec::new();
    let batch = data.train_batch_size;
    if batch > 1 {
        // The largest divisor keeps the number of samples in a step.
        let parts = (2..=batch)
            .find(|parts| batch.is_multiple_of(*parts))
            .unwrap_or(batch);
        remedies.push(format!(
            "--train_batch_size {} --gradient_accumulation_steps {} (the same step in {parts} parts)",
            batch / parts,
            u64::from(optimizer.gradient_accumulation_steps) * u64::from(parts)
        ));
    }
    use GradientCheckpointing::{Auto, Full};
    if !matches!(config.run.gradient_checkpointing, Full | Auto) {
        remedies.push("--gradient_checkpointing (the same step, but slower)".to_owned());
    }
    if config.distillation.vae_encode_batch_size.min(batch) > 1 {
        remedies.push("--vae_encode_batch_size 1 (the VAE encodes one picture after another)".to_owned());
    }
    if config.run.mixed_precision == MixedPrecision::No {
        remedies.push("--mixed_precision bf16".to_owned());
    }
    if config.method() == Method::Full {
        if config.part.ranks > 1 && optimizer.zero == Zero::Off {
            remedies.push("--zero 1 (each rank keeps its share of the optimiser's state)".to_owned());
        }
        if !optimizer.use_8bit_adam {
            remedies.push("--use_8bit_adam (AdamW's moments in a quarter of their memory)".to_owned());
        }
        remedies.push("--method lora (adapters on one frozen UNet)".to_owned());
    } else if config.lora.rank() > 1 {
        remedies.push(format!("--lora_rank {}", config.lora.rank() / 2));
    }
    remedies.push(format!("--resolution below {}", config.resolution()));
    remedies
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device {
            Device::Cuda(index) => write!(f, "cuda:{index} is out of memory")?,
            _ => f.write_str("the machine is out of memory")?,
        }
        write!(f, " ({})", self.source)?;
        if let Some(plan) = &self.plan {
            write!(f, ". {}; whatever else runs there comes on top", Summary(plan))?;
        }
        write!(f, ". {}", tries(&self.remedies))
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.plan.capacity.map_or(String::new(), |bytes| {
            format!(
                ", and there are {} for it{}: it may run out of memory",
                gigabytes(bytes),
                match self.plan.ranks_here {
                    1 => String::new(),
                    ranks => format!(", since {ranks} ranks share this machine"),
                }
            )
        });
        let (peak, summary) = (gigabytes(self.plan.peak()), Summary(&self.plan));
        write!(
            f,
            "the run is planned to take {peak}{there}. {summary}. {}",
            tries(&self.remedies)
        )
    }
}

/// A plan in a sentence without its end.
struct Summary<'a>(&'a MemoryPlan);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let parts: Vec<String> = plan
            .holdings
            .iter()
            .map(|holding| format!("{} {}", holding.what, gigabytes(holding.bytes)))
            .collect();
        write!(
            f,
            "Held for the whole run are {}: {}",
            gigabytes(plan.held()),
            parts.join(", ")
        )?;
        if let Some(phase) = plan.largest_phase() {
            write!(
                f,
                "; at most {} come on top ({})",
                gigabytes(phase.bytes),
                phase.what
            )?;
        }
        match plan.capacity {
            Some(capacity) if capacity < plan.held() => write!(
                f,
                ". What is held alone is more than the {} there are, so that a smaller batch is not enough",
                gigabytes(capacity)
            ),
            _ => Ok(()),
        }
    }
}

fn tries(remedies: &[String]) -> String {
    let list = remedies.join("; ");
    format!("To make it fit, try in this order, alone or together: {list}")
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny::config;

    /// What LibTorch says on a card that is full, shortened.
    const FULL_CARD: &str = "CUDA out of memory. Tried to allocate 1.25 GiB. GPU 0 has a total capacity of 23.64 GiB of \
        which 310.00 MiB is free. Including non-PyTorch memory, this process has 23.33 GiB memory in use.\nException \
        raised from malloc at /pytorch/c10/cuda/CUDACachingAllocator.cpp:1500 (most recent call first):\nframe #0: ...";

    #[test]
    fn it_says_what_is_held_and_what_would_fit() {
        let config = config(&[("train_batch_size", "12"), ("gradient_accumulation_steps", "2")]);
        let error = explain(TrainError::Torch(TorchError::new(FULL_CARD)), &config);
        let text = error.to_string();
        for said in [
            "CUDA out of memory. Tried to allocate 1.25 GiB",
            "Held for the whole run are 0.0 GB: teacher",
            "AdamW's two moments",
            "--train_batch_size 6 --gradient_accumulation_steps 4",
            "--gradient_checkpointing",
            "--mixed_precision bf16",
            "--use_8bit_adam",
            "--method lora",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("raised from"), "{text}");
    }

    #[test]
    fn it_names_only_what_would_help_these_options() {
        let config = config(&[
            ("train_batch_size", "1"),
            ("mixed_precision", "bf16"),
            ("lora_rank", "64"),
            ("gradient_checkpointing", "full"),
        ]);
        let remedies = remedies(&config);
        assert_eq!(remedies, ["--lora_rank 32", "--resolution below 512"]);
    }

    #[test]
    fn another_error_stays_as_it_is() {
        let error = explain(
            TrainError::Torch(TorchError::new("mat1 and mat2 shapes cannot be multiplied")),
            &config(&[]),
        );
        assert!(matches!(error, TrainError::Torch(_)));
    }
}
