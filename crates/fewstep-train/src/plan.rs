//! What a run will hold in memory, from configurations alone: weights and states by counting, what a step takes on top
//! by rehearsing it. Nothing is loaded for it.

use fewstep_models::clip::{ClipTextConfig, ClipTextModel};
use fewstep_models::params::Layout;
use fewstep_models::pipeline::Family;
use fewstep_models::unet::Recomputed;
use fewstep_models::vae::{AutoencoderKl, VaeConfig};
use fewstep_models::weights::Folder;
use tch::{Device, Kind};

use crate::conditioning::{vae_component, vae_kind};
use crate::config::{Config, GradientCheckpointing, Method};
use crate::data::data_config;
use crate::error::TrainError;
use crate::optimizer::{moments_bytes, working_bytes};
use crate::rehearsal::{self, Passes, Rehearsal, Sizes, Summing, Working};
use crate::share::Share;
use crate::student::{self, Architectures};
use crate::{device, memory};

/// What the process takes on the host beside tensors: LibTorch's libraries, the kernels that oneDNN compiles, threads.
/// Measured (benchmarks/2026-11-23-memory-plan.md).
const PROCESS: u64 = 180_000_000;

/// On the CPU, the most that the C allocator's heap leaves unused between tensors. Measured there, too.
const GAPS: u64 = 120_000_000;

/// What is left free where the number of pieces is chosen, as a share of what is planned: plans are within it.
const MARGIN: f64 = 0.1;

/// The phase in which ranks have more of each other's shares than in a step.
const COLLECTING: &str = "other ranks' shares, to begin or save";

/// What ranks sum their gradients in.
const BUCKETS: &str = "gradients, f32, in buckets";

/// One thing that is held for the whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What it is, like "student, f32 master weights".
    pub what: String,
    /// Its numbers.
    pub elements: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// What a part of a step takes for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What is done, like "backward pass".
    pub what: &'static str,
    /// The bytes that it takes at most, on top of what is held for the whole run.
    pub bytes: u64,
}

/// How many pieces of the student are computed again in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointed {
    /// So many.
    pub pieces: usize,
    /// Of so many that there are.
    pub of: usize,
    /// Whether the number was chosen for the memory that there is.
    pub chosen: bool,
}

/// The memory of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What is held for the whole run, largest roles first.
    pub holdings: Vec<Holding>,
    /// What comes on top, one phase after another.
    pub phases: Vec<Phase>,
    /// What the student's forward pass keeps for the backward pass.
    pub activations: u64,
    /// The gradients of an optimiser step.
    pub gradients: u64,
    /// On the host, besides tensors.
    pub process: u64,
    /// On the host, pictures that are decoded ahead.
    pub pictures_ahead: u64,
    /// On the CPU, what the C allocator keeps and does not use again for the largest phase.
    pub not_reused: u64,
    /// At the start, while the teacher's file is read: everything that is there by then, with the pages of the file,
    /// which the system can take back at any time.
    pub loading: u64,
    /// The copy of the trained weights and states from which a checkpoint is written while the run goes on, made where
    /// there is room; 0 where no checkpoint is due before the end.
    pub checkpoint_copy: u64,
    /// What is computed again.
    pub checkpointed: Checkpointed,
    /// What rank 0 alone takes of the phase in which it collects the other ranks' shares.
    pub collected_by_first: u64,
    /// What the device could give the run, where it says: on the CPU the part of this rank.
    pub capacity: Option<u64>,
    /// Ranks on this machine.
    pub ranks_here: u32,
    /// Where the networks are.
    pub device: Device,
    /// Trainable parameters.
    pub trainable: u64,
    /// Samples in one optimiser step.
    pub samples_per_step: u64,
    /// Optimiser steps of the run.
    pub steps: u64,
}

impl MemoryPlan {
    /// What is held for the whole run, together.
    pub fn held(&self) -> u64 {
        self.holdings.iter().map(|holding| holding.bytes).sum()
    }

    /// The phase that takes most.
    pub fn largest_phase(&self) -> Option<&Phase> {
        self.phases.iter().max_by_key(|phase| phase.bytes)
    }

    /// The most that the device holds at any time of a step: on the CPU, that is the whole process.
    pub fn peak(&self) -> u64 {
        let step = self.held() + self.largest_phase().map_or(0, |phase| phase.bytes);
        match self.device {
            Device::Cpu => step + self.process + self.pictures_ahead + self.not_reused,
            _ => step,
        }
    }

    /// The same of all ranks on this machine, of which this is one, rank 0 if it has more to do.
    pub fn peak_of_ranks_here(&self) -> u64 {
        let mut other = self.clone();
        for phase in &mut other.phases {
            if phase.what == COLLECTING {
                phase.bytes -= self.collected_by_first;
            }
        }
        self.peak() + u64::from(self.ranks_here - 1) * other.peak()
    }

    /// The most that the process holds at any time on the CPU, as its resident set counts it: with what can be taken
    /// back, and the copy for checkpoints.
    pub fn resident_peak(&self) -> u64 {
        (self.peak() + self.checkpoint_copy).max(self.loading)
    }

    /// Whether a run with this plan has the memory that it needs, as far as that is known.
    pub fn fits(&self) -> bool {
        self.capacity
            .is_none_or(|capacity| self.peak() as f64 * (1.0 + MARGIN) <= capacity as f64)
    }
}

/// Plans the run that the options describe, on this machine as it is now.
///
/// # Errors
/// Options or configurations that are wrong.
pub fn plan(config: &Config) -> Result<MemoryPlan, TrainError> {
    let device = device::resolve(&config.run).unwrap_or(Device::Cpu);
    Ok(choose(config, device, capacity(device, config))?.0)
}

/// The plan, and what is computed again: where the options leave that open, only as much as `capacity` bytes demand.
///
/// # Errors
/// As [`plan`].
pub(crate) fn choose(
    config: &Config,
    device: Device,
    capacity: Option<u64>,
) -> Result<(MemoryPlan, Recomputed), TrainError> {
    let folder = Folder::open(&config.teacher()?)?;
    let run = Planned::read(&folder, config, device)?;
    let rehearsal = run.rehearsal();
    let pieces = run.architectures.unet().pieces();
    let frozen = run.frozen_phases()?;
    let painting = run.painting()?;
    let mut plan = run.plan(capacity)?;
    let mut count = |recomputed: &Recomputed| -> Result<bool, TrainError> {
        run.put(&mut plan, &frozen, rehearsal.student(recomputed)?);
        plan.phases.extend(painting.clone());
        plan.checkpointed.pieces = recomputed.len();
        Ok(plan.fits())
    };
    let recomputed = match config.run.gradient_checkpointing {
        GradientCheckpointing::Auto => fewest(&rehearsal, &mut count)?,
        given => student::recomputed(given, &pieces),
    };
    count(&recomputed)?;
    Ok((plan, recomputed))
}

/// The fewest pieces with which the run fits, as `fits` says; all that save anything where it never does.
fn fewest(
    rehearsal: &Rehearsal<'_>,
    fits: &mut impl FnMut(&Recomputed) -> Result<bool, TrainError>,
) -> Result<Recomputed, TrainError> {
    if fits(&Recomputed::none())? {
        return Ok(Recomputed::none());
    }
    let pieces = rehearsal.worthwhile()?;
    // With `low` it does not fit; with `high` it does, or nothing helps.
    let (mut low, mut high) = (0, pieces.len());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match fits(&Recomputed::these(&pieces[..middle]))? {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(Recomputed::these(&pieces[..high]))
}

/// What this process could hold on a device: what is free, and what it holds there already. Ranks that share a machine
/// begin together, and share what is free.
pub(crate) fn capacity(device: Device, config: &Config) -> Option<u64> {
    match device {
        Device::Cuda(index) => {
            let memory = libtorch_ext::device::memory(index).ok()?;
            u64::try_from(memory.free + memory.allocated).ok()
        }
        _ => {
            let ranks = u64::from(config.others_here) + 1;
            Some(memory::available()? / ranks + memory::resident_of_its_own()?)
        }
    }
}

/// The networks and options of a run that is planned.
struct Planned<'a> {
    config: &'a Config,
    device: Device,
    family: Family,
    architectures: Architectures,
    /// What this rank updates.
    share: Share,
    encoders: Vec<(&'static str, ClipTextModel)>,
    vae: AutoencoderKl,
    /// Bytes of the files with the teacher's UNet, where they are there.
    stored: u64,
}

impl<'a> Planned<'a> {
    fn read(folder: &Folder, config: &'a Config, device: Device) -> Result<Self, TrainError> {
        let unet = folder.component("unet")?;
        let family = Family::of(folder);
        let names: &[&'static str] = match family {
            Family::Sd => &["text_encoder"],
            Family::Sdxl => &["text_encoder", "text_encoder_2"],
        };
        let mut encoders = Vec::new();
        for &name in names {
            let config = folder.component(name)?.parse(ClipTextConfig::from_json)?;
            encoders.push((name, ClipTextModel::new(config)?));
        }
        let architectures = Architectures::read(&unet, config)?;
        Ok(Planned {
            config,
            device,
            family,
            share: Share::of(architectures.trained(), config),
            architectures,
            encoders,
            vae: AutoencoderKl::new(vae_component(folder, config)?.parse(VaeConfig::from_json)?)?,
            stored: unet.stored_bytes().unwrap_or(0),
        })
    }

    fn working(&self) -> Working {
        match self.device {
            Device::Cpu => Working::Counts,
            _ => Working::IsUnknown,
        }
    }

    fn rehearsal(&self) -> Rehearsal<'_> {
        let (config, vae) = (self.config, self.vae.config());
        let text = self.encoders[0].1.config();
        Rehearsal {
            architectures: &self.architectures,
            sizes: Sizes {
                batch: i64::from(config.data.train_batch_size),
                micro_batches: config.optimizer.gradient_accumulation_steps,
                side: (i64::from(config.resolution()) / vae.downscale()).max(1),
                prompt: [text.max_position_embeddings, text.hidden_size],
                kind: config.run.mixed_precision.kind(),
            },
            working: self.working(),
            summing: match config.part.ranks {
                1 => Summing::Here,
                _ => Summing::InBuckets,
            },
        }
    }

    /// Everything but what depends on the pieces that are computed again.
    fn plan(&self, capacity: Option<u64>) -> Result<MemoryPlan, TrainError> {
        let config = self.config;
        let holdings = self.holdings();
        let of = |what: &str| -> u64 {
            let all = holdings.iter().filter(|holding| holding.what.starts_with(what));
            all.map(|holding| holding.bytes).sum()
        };
        let held: u64 = holdings.iter().map(|holding| holding.bytes).sum();
        let lacking = self.lacking_masters();
        let whole = held + lacking - of("AdamW") - of(BUCKETS);
        let before_target = whole - of("target") - of("averaged") - lacking / 2;
        let trained = self.architectures.trained();
        let steps = config.training_steps()?;
        let every = config.run.checkpointing_steps;
        let data = data_config(config);
        Ok(MemoryPlan {
            // Masters are loaded whole, and what other ranks keep of them is let go.
            loading: PROCESS
                + before_target
                + self
                    .stored
                    .max(if lacking > 0 { whole - before_target } else { 0 }),
            holdings,
            phases: Vec::new(),
            activations: 0,
            gradients: 0,
            process: PROCESS,
            pictures_ahead: data.bytes_ahead(),
            not_reused: 0,
            checkpoint_copy: match every > 0 && every < steps && config.part.rank == 0 {
                true => self.saved_bytes(),
                false => 0,
            },
            checkpointed: Checkpointed {
                pieces: 0,
                of: self.architectures.unet().pieces().len(),
                chosen: config.run.gradient_checkpointing == GradientCheckpointing::Auto,
            },
            collected_by_first: 0,
            capacity,
            ranks_here: config.others_here + 1,
            device: self.device,
            trainable: elements(trained),
            samples_per_step: config.samples_per_step(),
            steps,
        })
    }

    fn holdings(&self) -> Vec<Holding> {
        let config = self.config;
        let kind = config.run.mixed_precision.kind();
        let weights = |what: String, layout: &Layout, kind: Kind| {
            let elements = elements(layout);
            let bytes = elements * kind.elt_size_in_bytes() as u64;
            Holding {
                what,
                elements,
                bytes,
            }
        };
        let compute = config.run.mixed_precision;
        let trained = self.architectures.trained();
        let what = match config.method() {
            Method::Full => ["teacher", "student", "target"],
            Method::Lora => ["UNet, for teacher and student", "adapters", "averaged adapters"],
        };
        let teacher = self.architectures.teacher.layout();
        let mut holdings = vec![weights(what[0].to_owned(), teacher, kind)];
        let roles = match config.ema_decay() {
            Some(_) => &what[1..],
            None => &what[1..2],
        };
        for role in roles {
            let mut masters = weights(format!("{role}, f32 masters"), trained, Kind::Float);
            if self.masters_are_shared() {
                masters.what = format!("{role}, f32 masters, a share");
                masters.elements = self.own_elements();
                masters.bytes = 4 * masters.elements;
            }
            holdings.push(masters);
            if kind != Kind::Float {
                holdings.push(weights(format!("{role}, {compute} copy"), trained, kind));
            }
        }
        let mut moments = match config.optimizer.use_8bit_adam {
            false => "AdamW's two moments",
            true => "AdamW's two moments, in 8 bits",
        }
        .to_owned();
        if self.share.is_part() {
            moments += ", a share";
        }
        holdings.push(Holding {
            what: moments,
            elements: 2 * self.own_elements(),
            bytes: moments_bytes(trained, &self.share, &config.optimizer),
        });
        if config.part.ranks > 1 {
            holdings.push(weights(BUCKETS.to_owned(), trained, Kind::Float));
        }
        for (name, model) in &self.encoders {
            holdings.push(weights(name.replace('_', " "), model.layout(), kind));
        }
        let vae_kind = vae_kind(config, self.family);
        holdings.push(weights("VAE".to_owned(), self.vae.layout(), vae_kind));
        holdings
    }

    /// The phases before the student's.
    fn frozen_phases(&self) -> Result<Vec<Phase>, TrainError> {
        let config = self.config;
        let (batch, working) = (i64::from(config.data.train_batch_size), self.working());
        let at_once = match config.data.cache_dir {
            None => i64::from(config.distillation.vae_encode_batch_size).min(batch),
            Some(_) => 1,
        };
        let rehearsal = self.rehearsal();
        let mut captions = 0;
        for (_, model) in &self.encoders {
            let one = rehearsal::captions(model, rehearsal.sizes.kind, batch, working)?;
            captions = one.max(captions);
        }
        let resolution = i64::from(config.resolution());
        let vae_kind = vae_kind(config, self.family);
        let phase = |what, bytes| Phase { what, bytes };
        Ok(vec![
            phase(
                "pictures to latents",
                rehearsal::pictures(&self.vae, vae_kind, [batch, at_once], resolution, working)?,
            ),
            phase("captions to embeddings", captions),
            phase("teacher", rehearsal.teacher()?),
            phase("target", rehearsal.target()?),
        ])
    }

    /// Validation pictures, where the run paints any: the UNets paint no more at once than a step asks the teacher for,
    /// so that what counts is the VAE, in f32.
    fn painting(&self) -> Result<Option<Phase>, TrainError> {
        if !self.config.validates() {
            return Ok(None);
        }
        let rehearsal = self.rehearsal();
        let copy = match vae_kind(self.config, self.family) {
            Kind::Float => 0,
            _ => 4 * elements(self.vae.layout()),
        };
        Ok(Some(Phase {
            what: "validation pictures",
            bytes: copy + rehearsal::decoding(&self.vae, rehearsal.sizes.side, rehearsal.working)?,
        }))
    }

    /// Puts the phases into the plan.
    fn put(&self, plan: &mut MemoryPlan, frozen: &[Phase], passes: Passes) {
        // From the second micro-batch on, the gradients of the earlier ones are there all the time.
        let earlier = match self.config.optimizer.gradient_accumulation_steps {
            1 => 0,
            _ => passes.gradients,
        };
        let trained = self.architectures.trained();
        let update = match self.device {
            Device::Cpu => passes.gradients,
            _ => {
                let widened = match self.config.part.ranks {
                    1 => 4 * elements(trained),
                    _ => 0,
                };
                widened + working_bytes(trained, &self.share, &self.config.optimizer)
            }
        };
        let phase = |what, bytes| Phase { what, bytes };
        let frozen_pictures = frozen.first().map_or(0, |phase| phase.bytes);
        let frozen = frozen.iter().map(|own| phase(own.what, own.bytes + earlier));
        let students = [
            phase("student's forward pass", passes.forward),
            phase("backward pass", passes.backward),
            // AdamW and the average work in place; where there is no sweep, on gradients in f32.
            phase("update", update),
        ];
        plan.phases = frozen.chain(students).chain(self.sharing_phases()).collect();
        plan.collected_by_first = self.collected_by_first();
        // The VAE's maps are so much larger than the UNet's that the heap holds both, one beside the other: measured,
        // not derived.
        let pictures = frozen_pictures.min(passes.backward);
        plan.not_reused = match self.device {
            Device::Cpu => pictures + GAPS.min(plan.largest_phase().map_or(0, |phase| phase.bytes)),
            _ => 0,
        };
        plan.activations = passes.activations;
        plan.gradients = passes.gradients;
    }
}

fn elements(layout: &Layout) -> u64 {
    u64::try_from(layout.elements()).unwrap_or(0)
}

#[path = "plan_shares.rs"]
mod shares;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
