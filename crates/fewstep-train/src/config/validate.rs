//! What the options must be, each for itself and together, and the values that follow from them.

use std::path::PathBuf;

use super::{Config, ConfigError, LrSchedule, Method};

/// The learning rate of a whole UNet, unless one is given.
const FULL_LEARNING_RATE: f64 = 1e-6;
/// The warm-up of the schedules that have one, unless one is given.
const WARMUP_STEPS: u64 = 500;

impl Config {
    /// Checks every option, and all of them together.
    ///
    /// # Errors
    /// The first thing that is wrong, naming its flag.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_step()?;
        if self.data.train_shards_path_or_url.is_empty() {
            return Err(ConfigError::Missing {
                flag: "train_shards_path_or_url",
                hint: "give the WebDataset shards to train on",
            });
        }
        self.training_steps()?;
        Ok(())
    }

    /// Checks what shapes one training step, without which not even a single step can be replayed.
    ///
    /// # Errors
    /// The first thing that is wrong, naming its flag.
    pub fn validate_step(&self) -> Result<(), ConfigError> {
        self.teacher()?;
        if self.model.method == Method::Lora {
            return Err(ConfigError::ValueNotYet {
                flag: "method",
                value: self.model.method.to_string(),
                feature: "LoRA training",
            });
        }
        self.validate_ranges()?;
        self.validate_together()
    }

    fn validate_ranges(&self) -> Result<(), ConfigError> {
        let (data, optimizer, distillation) = (&self.data, &self.optimizer, &self.distillation);
        for (flag, number) in [
            ("resolution", data.resolution),
            ("train_batch_size", data.train_batch_size),
            ("shuffle_buffer_size", data.shuffle_buffer_size),
            (
                "gradient_accumulation_steps",
                optimizer.gradient_accumulation_steps,
            ),
            ("unet_time_cond_proj_dim", self.model.unet_time_cond_proj_dim),
            ("num_ddim_timesteps", distillation.num_ddim_timesteps),
            ("vae_encode_batch_size", distillation.vae_encode_batch_size),
        ] {
            check(flag, number > 0, || "it must be at least 1".to_owned())?;
        }
        for (flag, number) in [
            ("max_train_steps", data.max_train_steps),
            ("max_train_samples", data.max_train_samples),
            ("num_train_epochs", Some(data.num_train_epochs)),
            ("checkpoints_total_limit", self.run.checkpoints_total_limit),
        ] {
            check(flag, number != Some(0), || "it must be at least 1".to_owned())?;
        }
        for (flag, number) in [
            ("huber_c", distillation.huber_c),
            ("timestep_scaling_factor", distillation.timestep_scaling_factor),
            ("adam_epsilon", optimizer.adam_epsilon),
            ("max_grad_norm", optimizer.max_grad_norm),
        ] {
            check(flag, number > 0.0, || {
                format!("it is {number} and must be above 0")
            })?;
        }
        for (flag, number) in [
            ("learning_rate", self.base_learning_rate()),
            ("adam_weight_decay", optimizer.adam_weight_decay),
        ] {
            check(flag, number >= 0.0, || {
                format!("it is {number} and must not be below 0")
            })?;
        }
        for (flag, number) in [
            ("adam_beta1", optimizer.adam_beta1),
            ("adam_beta2", optimizer.adam_beta2),
        ] {
            check(flag, (0.0..1.0).contains(&number), || {
                format!("it is {number} and must be at least 0 and below 1")
            })?;
        }
        for (flag, number) in [
            ("ema_decay", distillation.ema_decay),
            ("proportion_empty_prompts", data.proportion_empty_prompts),
        ] {
            check(flag, (0.0..=1.0).contains(&number), || {
                format!("it is {number} and must be between 0 and 1")
            })?;
        }
        Ok(())
    }

    fn validate_together(&self) -> Result<(), ConfigError> {
        let (w_min, w_max) = (self.distillation.w_min, self.distillation.w_max);
        check("w_max", w_min <= w_max, || {
            format!("it is {w_max}, below --w_min, which is {w_min}")
        })?;
        let optimizer = &self.optimizer;
        check(
            "lr_warmup_steps",
            optimizer.lr_scheduler != LrSchedule::Constant || optimizer.lr_warmup_steps.unwrap_or(0) == 0,
            || {
                "the constant schedule has no warm-up; give --lr_scheduler constant_with_warmup, or leave it out"
                    .to_owned()
            },
        )?;
        check(
            "learning_rate",
            optimizer.lr_scheduler != LrSchedule::Polynomial
                || self.learning_rate() > crate::lr::POLYNOMIAL_END,
            || "the polynomial schedule falls to 1e-7 and must start above it".to_owned(),
        )
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
    fn base_learning_rate(&self) -> f64 {
        self.optimizer.learning_rate.unwrap_or(FULL_LEARNING_RATE)
    }

    /// The learning rate after warm-up.
    pub fn learning_rate(&self) -> f64 {
        let scale = if self.optimizer.scale_lr {
            f64::from(self.optimizer.gradient_accumulation_steps) * f64::from(self.data.train_batch_size)
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
    /// As in the reference an epoch is rounded up to whole micro-batches on every decoding thread, then to
    /// whole optimiser steps.
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
        let micro_batches = samples.div_ceil(u64::from(data.train_batch_size) * threads) * threads;
        let steps = micro_batches.div_ceil(u64::from(self.optimizer.gradient_accumulation_steps));
        Ok(data.num_train_epochs.saturating_mul(steps))
    }

    /// Samples in one optimiser step.
    pub fn samples_per_step(&self) -> u64 {
        u64::from(self.data.train_batch_size) * u64::from(self.optimizer.gradient_accumulation_steps)
    }

    /// The same options with those filled in that follow from others.
    pub fn resolved(&self) -> Config {
        let mut config = self.clone();
        config.optimizer.learning_rate = Some(self.base_learning_rate());
        config.optimizer.lr_warmup_steps = Some(self.warmup_steps());
        config.data.max_train_steps = self.training_steps().ok();
        config
    }
}

fn check(flag: &str, holds: bool, reason: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::value(flag, reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        config
            .set("pretrained_teacher_model", &["teacher".to_owned()])
            .unwrap();
        for (name, word) in flags {
            config.set(name, &[(*word).to_owned()]).unwrap();
        }
        config
    }

    #[test]
    fn epochs_become_steps_as_in_the_reference() {
        // (samples, batch, threads, accumulation, epochs) -> steps, by spec 3.4.
        for (samples, batch, threads, accumulation, epochs, steps) in [
            ("4000000", "12", "8", "1", "1", 333_336),
            ("100", "8", "0", "1", "2", 26),
            ("100", "8", "4", "3", "1", 6),
            ("1", "16", "1", "1", "7", 7),
        ] {
            let config = config(&[
                ("max_train_samples", samples),
                ("train_batch_size", batch),
                ("dataloader_num_workers", threads),
                ("gradient_accumulation_steps", accumulation),
                ("num_train_epochs", epochs),
            ]);
            assert_eq!(config.training_steps().unwrap(), steps);
        }
        assert_eq!(config(&[("max_train_steps", "5")]).training_steps().unwrap(), 5);
        assert!(config(&[]).training_steps().is_err());
    }

    #[test]
    fn wrong_values_name_their_flags() {
        for (flag, word) in [
            ("proportion_empty_prompts", "1.5"),
            ("ema_decay", "-0.1"),
            ("resolution", "0"),
            ("huber_c", "0"),
            ("adam_beta2", "1"),
            ("w_max", "2"),
            ("lr_warmup_steps", "10"),
        ] {
            let error = config(&[(flag, word)]).validate_step().unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        }
        config(&[]).validate_step().unwrap();
        assert!(Config::default().validate_step().is_err());
    }

    #[test]
    fn the_learning_rate_is_scaled_where_asked() {
        let plain = config(&[("gradient_accumulation_steps", "2"), ("train_batch_size", "8")]);
        assert_eq!(plain.learning_rate(), 1e-6);
        let mut scaled = plain;
        scaled.set("scale_lr", &[]).unwrap();
        assert_eq!(scaled.learning_rate(), 16e-6);
    }
}
