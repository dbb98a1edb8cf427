//! What the options must be, each for itself and together.

use std::path::Component;
use std::time::Duration;

use super::{Config, ConfigError, LrSchedule, Method};

impl Config {
    /// Checks every option, and all of them together.
    ///
    /// # Errors
    /// The first thing that is wrong, naming its flag.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_step()?;
        self.validate_data()?;
        self.validate_validation()?;
        self.training_steps()?;
        Ok(())
    }

    /// Checks what shapes one training step, without which not even a single step can be replayed.
    ///
    /// # Errors
    /// The first thing that is wrong, naming its flag.
    pub fn validate_step(&self) -> Result<(), ConfigError> {
        self.teacher()?;
        self.validate_ranges()?;
        self.validate_together()
    }

    /// Checks where the data come from, and which of them are taken: exactly one origin, and no flag that has no part
    /// in it.
    ///
    /// # Errors
    /// The first thing that is wrong, naming its flag.
    pub fn validate_data(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        match (&data.train_data_dir, data.train_shards_path_or_url.is_empty()) {
            (None, true) => Err(ConfigError::Missing {
                flag: "train_shards_path_or_url",
                hint: "give the WebDataset shards to train on, or a folder of pictures with --train_data_dir",
            }),
            (Some(_), false) => Err(ConfigError::value(
                "train_data_dir",
                "there is --train_shards_path_or_url as well; train from one of the two",
            )),
            (None, false) => [
                ("image_column", &data.image_column),
                ("caption_column", &data.caption_column),
            ]
            .into_iter()
            .try_for_each(|(flag, column)| {
                check(flag, column.is_none(), || {
                    "it is for --train_data_dir; shards have no columns".to_owned()
                })
            }),
            (Some(_), true) => [
                ("caption_key", data.caption_key.is_some()),
                ("max_pwatermark", data.max_pwatermark.is_some()),
                ("min_aesthetic", data.min_aesthetic.is_some()),
            ]
            .into_iter()
            .try_for_each(|(flag, given)| {
                check(flag, !given, || {
                    "it is for shards; the samples of a folder have no JSON (their captions: --caption_column)"
                        .to_owned()
                })
            }),
        }?;
        self.validate_scores()?;
        self.validate_cache()
    }

    /// A cache only of what comes again.
    fn validate_cache(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        check("cache_crops", data.cache_crops != Some(0), || {
            "it must be at least 1".to_owned()
        })?;
        check(
            "cache_crops",
            data.cache_crops.is_none() || !data.crops_the_middle(),
            || {
                "the middle of a picture is one crop: leave it out, or --center_crop and --use_fix_crop_and_size".to_owned()
            },
        )?;
        check(
            "cache_dir",
            data.cache_dir.is_none() || data.crops_the_middle() || data.cache_crops.is_some(),
            || {
                "random crops never come again: give --cache_crops K to take one of K places of each picture, or \
                 --center_crop"
                    .to_owned()
            },
        )?;
        check("cache_max_gb", data.cache_max_gb > 0.0, || {
            format!("it is {} and must be above 0", data.cache_max_gb)
        })
    }

    /// No flag of the scores without the score that it is about.
    fn validate_scores(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        let (watermark, aesthetic) = (data.max_pwatermark.is_some(), data.min_aesthetic.is_some());
        for (flag, idle, with) in [
            (
                "pwatermark_key",
                data.pwatermark_key.is_some() && !watermark,
                "--max_pwatermark",
            ),
            (
                "aesthetic_key",
                data.aesthetic_key.is_some() && !aesthetic,
                "--min_aesthetic",
            ),
            (
                "keep_unscored",
                data.keep_unscored && !watermark && !aesthetic,
                "--max_pwatermark or --min_aesthetic",
            ),
        ] {
            check(flag, !idle, || format!("it does nothing without {with}"))?;
        }
        check(
            "max_pwatermark",
            data.max_pwatermark.is_none_or(|most| (0.0..=1.0).contains(&most)),
            || "it is a probability, between 0 and 1".to_owned(),
        )
    }

    fn validate_ranges(&self) -> Result<(), ConfigError> {
        let (data, optimizer, distillation) = (&self.data, &self.optimizer, &self.distillation);
        for (flag, number) in [
            ("resolution", self.resolution()),
            ("train_batch_size", data.train_batch_size),
            ("shuffle_buffer_size", data.shuffle_buffer_size),
            (
                "gradient_accumulation_steps",
                optimizer.gradient_accumulation_steps,
            ),
            ("unet_time_cond_proj_dim", self.model.unet_time_cond_proj_dim),
            ("num_ddim_timesteps", distillation.num_ddim_timesteps),
            ("vae_encode_batch_size", distillation.vae_encode_batch_size),
            ("lora_rank", self.lora.rank()),
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
            ("lora_alpha", self.lora.alpha()),
        ] {
            check(flag, number > 0.0, || {
                format!("it is {number} and must be above 0")
            })?;
        }
        for (flag, seconds) in [
            ("data_timeout", data.data_timeout),
            ("max_data_wait", data.max_data_wait),
            ("rank_timeout", self.run.rank_timeout),
        ] {
            let is_time = seconds > 0.0 && Duration::try_from_secs_f64(seconds).is_ok();
            check(flag, is_time, || {
                format!("it is {seconds} and must be a number of seconds above 0")
            })?;
        }
        let fraction = data.max_bad_fraction;
        check("max_bad_fraction", (0.0..=1.0).contains(&fraction), || {
            format!("it is {fraction} and must be between 0 and 1")
        })?;
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
            ("ema_decay", distillation.ema_decay.unwrap_or(0.0)),
            ("proportion_empty_prompts", data.proportion_empty_prompts),
        ] {
            check(flag, (0.0..=1.0).contains(&number), || {
                format!("it is {number} and must be between 0 and 1")
            })?;
        }
        Ok(())
    }

    fn validate_together(&self) -> Result<(), ConfigError> {
        // A run goes on with the reports that it finds, so those of several runs must not lie in one folder.
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let logging_dir = &self.run.logging_dir;
        check("logging_dir", logging_dir.components().all(inside), || {
            format!(
                "{} leads out of --output_dir, in which it must lie",
                logging_dir.display()
            )
        })?;
        let project = &self.run.tracker_project_name;
        check(
            "tracker_project_name",
            !["", ".", ".."].contains(&&**project) && !project.contains('/'),
            || "it is the name of a folder, and of a project".to_owned(),
        )?;
        let (w_min, w_max) = self.w_range();
        check("w_max", w_min <= w_max, || {
            format!("it is {w_max}, below --w_min, which is {w_min}")
        })?;
        check("lora_dropout", (0.0..1.0).contains(&self.lora.dropout()), || {
            format!("it is {} and must be at least 0 and below 1", self.lora.dropout())
        })?;
        check(
            "method",
            self.method() == Method::Lora || !self.lora.is_asked_for(),
            || {
                "it is full, but an option of the adapters (--lora_...) is given: leave one of them out"
                    .to_owned()
            },
        )?;
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
}

pub(super) fn check(flag: &str, holds: bool, reason: impl FnOnce() -> String) -> Result<(), ConfigError> {
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
            ("data_timeout", "0"),
            ("logging_dir", "/tmp/logs"),
            ("logging_dir", "../logs"),
            ("tracker_project_name", "."),
            ("max_data_wait", "0"),
            ("rank_timeout", "0"),
            ("max_bad_fraction", "1.5"),
            ("data_timeout", "1e300"),
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
    fn data_have_one_origin() {
        let steps = ("max_train_steps", "1");
        let error = |flags: &[(&str, &str)]| {
            let flags = [&[steps], flags].concat();
            config(&flags).validate().unwrap_err().to_string()
        };
        let both = error(&[("train_data_dir", "a"), ("train_shards_path_or_url", "b.tar")]);
        assert!(
            both.contains("--train_data_dir") && both.contains("--train_shards_path_or_url"),
            "{both}"
        );
        let neither = error(&[]);
        assert!(neither.contains("--train_data_dir") && neither.contains("--train_shards_path_or_url"));
        let idle = error(&[("caption_column", "words"), ("train_shards_path_or_url", "b.tar")]);
        assert!(idle.starts_with("--caption_column: "), "{idle}");
        config(&[steps, ("train_data_dir", "a"), ("caption_column", "words")])
            .validate()
            .unwrap();
        let idle = error(&[("caption_key", "words"), ("train_data_dir", "a")]);
        assert!(idle.starts_with("--caption_key: it is for shards"), "{idle}");
    }

    #[test]
    fn flags_of_a_score_need_it() {
        let with = |flags: &[(&str, &str)]| {
            let shards = [("max_train_steps", "1"), ("train_shards_path_or_url", "b.tar")];
            config(&[&shards, flags].concat()).validate()
        };
        for (flag, word) in [
            ("pwatermark_key", "p"),
            ("aesthetic_key", "a"),
            ("keep_unscored", "true"),
            ("max_pwatermark", "50"),
        ] {
            let error = with(&[(flag, word)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        }
        with(&[("max_pwatermark", "0.5"), ("pwatermark_key", "p")]).unwrap();
        with(&[("min_aesthetic", "5"), ("keep_unscored", "true")]).unwrap();
    }

    #[test]
    fn a_cache_is_of_crops_that_come_again() {
        let with = |flags: &[(&str, &str)]| {
            let shards = [("max_train_steps", "1"), ("train_shards_path_or_url", "b.tar")];
            config(&[&shards, flags].concat()).validate()
        };
        let dir = ("cache_dir", "cache");
        for (flag, flags) in [
            ("cache_dir", &[dir][..]),
            ("cache_crops", &[("cache_crops", "0")]),
            ("cache_crops", &[("cache_crops", "2"), ("center_crop", "true")]),
            (
                "cache_max_gb",
                &[dir, ("center_crop", "true"), ("cache_max_gb", "0")],
            ),
        ] {
            let error = with(flags).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        }
        let both = with(&[dir]).unwrap_err().to_string();
        assert!(
            both.contains("--cache_crops") && both.contains("--center_crop"),
            "{both}"
        );
        with(&[dir, ("cache_crops", "3")]).unwrap();
        with(&[dir, ("use_fix_crop_and_size", "true")]).unwrap();
        with(&[("cache_crops", "3")]).unwrap();
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
