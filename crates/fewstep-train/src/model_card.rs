//! The README.md of a finished run: what was trained from what, and how to paint with it.

use std::fmt::Write;

use fewstep_models::lora::{DIFFUSERS_FILE, KOHYA_FILE};

use crate::config::{Config, Method};

/// The model card of a run of `steps` optimiser steps over `samples` samples.
pub(crate) fn model_card(config: &Config, steps: u64, samples: u64, pictures: Option<&str>) -> String {
    let teacher = match &config.model.pretrained_teacher_model {
        Some(path) => path.display().to_string(),
        None => String::new(),
    };
    let output = config.run.output_dir.display().to_string();
    let (low, high) = guidance_scales(config);
    let title = format!("A latent consistency model of {teacher}");
    let (tags, what, uses) = match config.method() {
        Method::Full => (
            "",
            whole(&teacher, low, high),
            use_whole(&teacher, &output, low, high),
        ),
        Method::Lora => ("- lora\n", adapters(&teacher), use_adapters(&teacher, &output)),
    };
    format!(
        "---\nlibrary_name: diffusers\ntags:\n- latent-consistency-model\n- text-to-image\n{tags}---\n\n\
         # {title}\n\n{what}\n\n{}{}\nAll settings are in `config.toml`.\n\n## Use it\n\n{uses}",
        pictures.map_or_else(String::new, |path| shown(config, path)),
        settings(config, steps, samples)
    )
}

/// The latest validation pictures, and what is to be seen on them.
fn shown(config: &Config, path: &str) -> String {
    let validation = &config.validation;
    let mut columns = vec![format!(
        "the student in {} steps",
        validation.validation_inference_steps
    )];
    if validation.validation_teacher_steps > 0 {
        let steps = validation.validation_teacher_steps;
        columns.insert(0, format!("the teacher in {steps} steps"));
    }
    if config.ema_decay().is_some() {
        columns.push("the student's moving average".to_owned());
    }
    // The file was read when the run began.
    let prompts = config.validation_prompts().unwrap_or_default();
    let rows: String = prompts.iter().map(|prompt| format!("- {prompt}\n")).collect();
    format!(
        "![validation pictures]({path})\n\nFrom left to right: {}; from top to bottom:\n\n{rows}\n",
        columns.join(", ")
    )
}

/// The trained range, as pipelines speak of it: guidance_scale = w + 1.
fn guidance_scales(config: &Config) -> (f64, f64) {
    let (low, high) = config.w_range();
    (low + 1.0, high + 1.0)
}

fn settings(config: &Config, steps: u64, samples: u64) -> String {
    let distillation = &config.distillation;
    let (low, high) = guidance_scales(config);
    let mut rows = vec![
        ("optimiser steps", steps.to_string()),
        ("samples seen", samples.to_string()),
        ("data", data(config)),
        ("resolution", config.resolution().to_string()),
        ("learning rate", format!("{:e}", config.learning_rate())),
        ("loss", distillation.loss_type.to_string()),
        ("solver steps (N)", distillation.num_ddim_timesteps.to_string()),
        ("guidance scales", format!("{low} to {high}")),
        ("mixed precision", config.run.mixed_precision.to_string()),
        ("seed", config.run.seed.to_string()),
    ];
    if config.optimizer.use_8bit_adam {
        rows.push(("optimiser", "AdamW with moments in 8 bits".to_owned()));
    }
    if let Some(decay) = config.ema_decay() {
        rows.push(("EMA decay", decay.to_string()));
    }
    if config.method() == Method::Lora {
        let (rank, alpha) = (config.lora.rank(), config.lora.alpha());
        rows.push(("adapters", format!("rank {rank}, alpha {alpha}")));
    }
    let mut table = "| setting | value |\n|---|---|\n".to_owned();
    for (name, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {name} | {value} |");
    }
    table
}

/// Where the samples came from, without credentials.
fn data(config: &Config) -> String {
    match &config.data.train_data_dir {
        Some(folder) => folder.display().to_string(),
        // Where a command has a pipe, a table would see its next column.
        None => config
            .shown()
            .data
            .train_shards_path_or_url
            .join(" ")
            .replace('|', "\\|"),
    }
}

fn whole(teacher: &str, low: f64, high: f64) -> String {
    format!(
        "A UNet that paints in one to eight steps, distilled from `{teacher}` with fewstep. `unet_target/` is the \
         moving average of `unet/` and usually the better one; `scheduler/` goes with both. The guidance scale \
         is an input of the network: it was trained with {low} to {high}, and there is no second pass for it."
    )
}

fn use_whole(teacher: &str, output: &str, low: f64, high: f64) -> String {
    let middle = (low + high) / 2.0;
    format!(
        "```sh\n\
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

fn adapters(teacher: &str) -> String {
    format!(
        "Low-rank adapters (LoRA) with which `{teacher}`, and models made from it, paint in one to eight steps; \
         distilled with fewstep. The guidance is in the adapters: paint with a guidance scale of 1, which asks \
         the network once a step, or a little above. `{DIFFUSERS_FILE}` has diffusers' names, `{KOHYA_FILE}` holds \
         the same adapters for other programs."
    )
}

fn use_adapters(teacher: &str, output: &str) -> String {
    format!(
        "```sh\n\
         fewstep generate --model {teacher} --lora {output}/{DIFFUSERS_FILE} --prompt \"...\" --steps 4 \
         --guidance_scale 1 --out picture.png\n\
         ```\n\n\
         ```python\n\
         from diffusers import DiffusionPipeline, LCMScheduler\n\n\
         pipe = DiffusionPipeline.from_pretrained(\"{teacher}\")\n\
         pipe.load_lora_weights(\"{output}\", weight_name=\"{DIFFUSERS_FILE}\")\n\
         pipe.scheduler = LCMScheduler.from_pretrained(\"{output}\", subfolder=\"scheduler\")\n\
         picture = pipe(\"...\", num_inference_steps=4, guidance_scale=1.0).images[0]\n\
         ```\n"
    )
}
