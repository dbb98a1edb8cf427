//! The values that follow from the options, where an option is not given: from the other options, and from
//! the family that the teacher belongs to.

use std::path::PathBuf;

use fewstep_data::secrets::mask;
use fewstep_models::pipeline::Family;
use fewstep_models::weights::Folder;

use super::{Config, ConfigError, DataConfig, LoraConfig, LrSchedule, Method, Zero};

/// The learning rate of a whole UNet, unless one is given.
const FULL_LEARNING_RATE: f64 = 1e-6;
/// The learning rate of adapters, unless one is given.
const LORA_LEARNING_RATE: f64 = 1e-4;
/// The adapters' rank and alpha, unless given.
const RANK: u32 = 64;
const ALPHA: f64 = 64.0;
/// The warm-up of the schedules that have one, unless one is given.
const WARMUP_STEPS: u64 = 500;
/// The target's decay in a full distillation, unless one is given.
const EMA_DECAY: f64 = 0.95;

impl DataConfig {
    /// Whether the middle of a picture is cropped.
    pub fn crops_the_middle(&self) -> bool {
        self.center_crop || self.use_fix_crop_and_size
    }
}

impl Config {
    /// The teacher's family; SD's where there is no teacher yet.
    pub fn family(&self) -> Family {
        let folder = self
            .teacher()
            .ok()
            .and_then(|teacher| Folder::open(&teacher).ok());
        folder.map_or(Family::Sd, |folder| Family::of(&folder))
    }

    /// The side of the square pictures, in pixels.
    pub fn resolution(&self) -> u32 {
        self.data.resolution.unwrap_or(match self.family() {
            Family::Sd => 512,
            Family::Sdxl => 1024,
        })
    }

    /// The least and the largest guidance scale w.
    pub fn w_range(&self) -> (f64, f64) {
        let least = self.distillation.w_min.unwrap_or(match self.family() {
            Family::Sd => 5.0,
            Family::Sdxl => 3.0,
        });
        (least, self.distillation.w_max)
    }

    /// What is trained: adapters where an option of theirs is given, and the whole UNet otherwise.
    pub fn method(&self) -> Method {
        let default = match self.lora.is_asked_for() {
            true => Method::Lora,
            false => Method::Full,
        };
        self.model.method.unwrap_or(default)
    }

    /// The decay of the target's moving average. `None`: the target is the student itself.
    pub fn ema_decay(&self) -> Option<f64> {
        match self.method() {
            Method::Full => Some(self.distillation.ema_decay.unwrap_or(EMA_DECAY)),
            Method::Lora => self.distillation.ema_decay,
        }
    }

    /// The teacher's folder.
    ///
    /// # Errors
    /// It is not given.
    pub fn teacher(&self) -> Result<PathBuf, ConfigError> {
        self.model
            .pretrained_teacher_model
            .clone()
            .ok_or(ConfigError::Missing {
                flag: "pretrained_teacher_model",
                hint: "give the folder of the teacher, in diffusers' layout",
            })
    }

    /// The learning rate before `scale_lr`.
    pub(super) fn base_learning_rate(&self) -> f64 {
        self.optimizer.learning_rate.unwrap_or(match self.method() {
            Method::Full => FULL_LEARNING_RATE,
            Method::Lora => LORA_LEARNING_RATE,
        })
    }

    /// The learning rate after warm-up.
    pub fn learning_rate(&self) -> f64 {
        let scale = if self.optimizer.scale_lr {
            self.samples_per_step() as f64
        } else {
            1.0
        };
        self.base_learning_rate() * scale
    }

    /// Optimiser steps over which the learning rate rises.
    pub fn warmup_steps(&self) -> u64 {
        let default = match self.optimizer.lr_scheduler {
            LrSchedule::Constant => 0,
            _ => WARMUP_STEPS,
        };
        self.optimizer.lr_warmup_steps.unwrap_or(default)
    }

    /// Optimiser steps of the whole run: `max_train_steps`, or `num_train_epochs` of `max_train_samples`.
    ///
    /// As in the reference an epoch is rounded up to whole micro-batches on every decoding thread of every rank, then
    /// to whole optimiser steps.
    ///
    /// # Errors
    /// Neither is given.
    pub fn training_steps(&self) -> Result<u64, ConfigError> {
        let data = &self.data;
        if let Some(steps) = data.max_train_steps {
            return Ok(steps);
        }
        let samples = data.max_train_samples.ok_or(ConfigError::Missing {
            flag: "max_train_steps",
            hint: "give the number of optimiser steps, or --max_train_samples with --num_train_epochs",
        })?;
        let threads = u64::from(data.dataloader_num_workers.max(1));
        let batch = u64::from(data.train_batch_size) * self.part.ranks;
        let micro_batches = samples.div_ceil(batch * threads) * threads;
        let steps = micro_batches.div_ceil(u64::from(self.optimizer.gradient_accumulation_steps));
        Ok(data.num_train_epochs.saturating_mul(steps))
    }

    /// Whether ranks keep only their shares of the optimiser's state.
    pub fn is_sharded(&self) -> bool {
        self.optimizer.zero == Zero::One && self.part.ranks > 1
    }

    /// Samples in one optimiser step, of all ranks.
    pub fn samples_per_step(&self) -> u64 {
        let each = u64::from(self.data.train_batch_size) * self.part.ranks;
        each * u64::from(self.optimizer.gradient_accumulation_steps)
    }

    /// The same options with those filled in that follow from others.
    pub fn resolved(&self) -> Config {
        let mut config = self.clone();
        config.model.method = Some(self.method());
        config.data.resolution = Some(self.resolution());
        config.optimizer.learning_rate = Some(self.base_learning_rate());
        config.optimizer.lr_warmup_steps = Some(self.warmup_steps());
        config.data.max_train_steps = self.training_steps().ok();
        config.distillation.w_min = Some(self.w_range().0);
        config.distillation.ema_decay = self.ema_decay();
        config.validation = self.validation_resolved();
        if self.method() == Method::Lora {
            config.lora = self.lora.resolved();
        }
        config
    }
}

impl Config {
    /// The resolved options as they are shown and written: without credentials.
    pub fn shown(&self) -> Config {
        let mut config = self.resolved();
        for shards in &mut config.data.train_shards_path_or_url {
            *shards = mask(shards);
        }
        config
    }
}

impl LoraConfig {
    /// Whether any option of the adapters is given.
    pub fn is_asked_for(&self) -> bool {
        *self != LoraConfig::default()
    }

    /// The adapters' rank.
    pub fn rank(&self) -> u32 {
        self.lora_rank.unwrap_or(RANK)
    }

    /// An adapter counts alpha / rank times.
    pub fn alpha(&self) -> f64 {
        self.lora_alpha.unwrap_or(ALPHA)
    }

    /// The share of an adapter's inputs that are dropped in training.
    pub fn dropout(&self) -> f64 {
        self.lora_dropout.unwrap_or(0.0)
    }

    fn resolved(&self) -> Self {
        LoraConfig {
            lora_rank: Some(self.rank()),
            lora_alpha: Some(self.alpha()),
            lora_dropout: Some(self.dropout()),
            lora_target_modules: self.lora_target_modules.clone(),
        }
    }
}
