//! What a finished run leaves: student and target as diffusers loads them, the scheduler that fits them, and
//! a model card.

use std::fmt::Write;
use std::path::Path;

use fewstep_models::schedule::{SchedulerConfig, lcm_scheduler_config};
use fewstep_models::weights::{ModelError, write_atomic, write_json_atomic};

use crate::checkpoint::save_unets;
use crate::config::Config;
use crate::error::TrainError;
use crate::student::Unets;

/// Writes unet/, unet_target/, scheduler/ and README.md into the run's folder.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn write(
    config: &Config,
    unets: &Unets,
    scheduler: &SchedulerConfig,
    steps: u64,
    samples: u64,
) -> Result<(), TrainError> {
    let folder = &config.run.output_dir;
    save_unets(folder, unets)?;
    let lcm = lcm_scheduler_config(
        scheduler,
        i64::from(config.distillation.num_ddim_timesteps),
        config.distillation.timestep_scaling_factor,
    )?;
    let place = folder.join("scheduler");
    std::fs::create_dir_all(&place).map_err(|error| TrainError::io("make folder", &place, error))?;
    write_json_atomic(&place.join("scheduler_config.json"), &lcm)?;
    write_text(&folder.join("README.md"), &model_card(config, steps, samples))
}

/// Writes a text file, whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    write_atomic(path, |file| {
        std::io::Write::write_all(file, text.as_bytes()).map_err(|error| ModelError::io("write", path, error))
    })?;
    Ok(())
}

fn model_card(config: &Config, steps: u64, samples: u64) -> String {
    let (model, distillation) = (&config.model, &config.distillation);
    let teacher = match &model.pretrained_teacher_model {
        Some(path) => path.display().to_string(),
        None => String::new(),
    };
    let output = config.run.output_dir.display();
    // Pipelines speak of guidance_scale = w + 1.
    let (low, high) = (distillation.w_min + 1.0, distillation.w_max + 1.0);
    let middle = (low + high) / 2.0;
    let mut settings = String::new();
    for (name, value) in [
        ("optimiser steps", steps.to_string()),
        ("samples seen", samples.to_string()),
        ("data", config.data.train_shards_path_or_url.join(" ")),
        ("resolution", config.data.resolution.to_string()),
        ("learning rate", format!("{:e}", config.learning_rate())),
        ("loss", distillation.loss_type.to_string()),
        ("solver steps (N)", distillation.num_ddim_timesteps.to_string()),
        ("guidance scales", format!("{low} to {high}")),
        ("EMA decay", distillation.ema_decay.to_string()),
        ("mixed precision", config.run.mixed_precision.to_string()),
        ("seed", config.run.seed.to_string()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(settings, "| {name} | {value} |");
    }
    format!(
        "---\n\
         library_name: diffusers\n\
         tags:\n\
         - latent-consistency-model\n\
         - text-to-image\n\
         ---\n\n\
         # A latent consistency model of {teacher}\n\n\
         A UNet that paints in one to eight steps, distilled from `{teacher}` with fewstep. `unet_target/` is the \
         moving average of `unet/` and usually the better one; `scheduler/` goes with both. The guidance scale \
         is an input of the network: it was trained with {low} to {high}, and there is no second pass for it.\n\n\
         | setting | value |\n|---|---|\n{settings}\n\
         All settings are in `config.toml`.\n\n\
         ## Use it\n\n\
         ```sh\n\
         fewstep generate --model {teacher} --unet {output}/unet_target --prompt \"...\" --steps 4 \
         --guidance_scale {middle} --out picture.png\n\
         ```\n\n\
         ```python\n\
         from diffusers import DiffusionPipeline, LCMScheduler, UNet2DConditionModel\n\n\
         unet = UNet2DConditionModel.from_pretrained(\"{output}\", subfolder=\"unet_target\")\n\
         pipe = DiffusionPipeline.from_pretrained(\"{teacher}\", unet=unet)\n\
         pipe.scheduler = LCMScheduler.from_pretrained(\"{output}\", subfolder=\"scheduler\")\n\
         picture = pipe(\"...\", num_inference_steps=4, guidance_scale={middle}).images[0]\n\
         ```\n"
    )
}
