//! Making the demo's teacher: a small Stable Diffusion of the small world, trained by our own networks, in
//! diffusers' layout.
//!
//! Three stages, each of which goes on where it stopped: the VAE, the latents of all pictures, and the UNet
//! together with the text encoder.

mod architecture;
mod autoencoder;
mod denoiser;
mod latents;
mod pictures;
mod progress;
mod recipe;
mod report;
mod tokenizer;
mod trained;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fewstep_models::clip::ClipTokenizer;
use fewstep_models::params::{Layout, Weights};
use fewstep_models::weights::{
    DIFFUSERS_STEM, MAX_SHARD_BYTES, TRANSFORMERS_STEM, read_tensors, save_component, write_json_atomic,
    write_tensors,
};
use tch::{Device, Kind};

pub use pictures::{from_pixels, pixels};
pub use recipe::{DenoiserRecipe, Recipe, ReportRecipe, TextRecipe, Training, UNetRecipe, VaeRecipe};
pub use report::Report;
pub use tokenizer::Vocabulary;

use crate::world;
use autoencoder::Autoencoder;
use denoiser::Denoiser;
use latents::Examples;
use progress::Due;
use trained::Trained;

/// How a teacher is made.
#[derive(Debug, Clone)]
pub struct TeacherOptions {
    /// What is made.
    pub recipe: Recipe,
    /// Where it goes, in diffusers' layout.
    pub out: PathBuf,
    /// Where unfinished work lies, to go on with.
    pub work: PathBuf,
    /// What computes.
    pub device: Device,
    /// In which dtype networks compute while they are trained: f32 or bf16.
    pub kind: Kind,
    /// Threads that draw pictures and numbers ahead.
    pub threads: usize,
}

/// Makes the teacher, writes it to `options.out` and judges it. `say` gets a line now and then.
///
/// # Errors
/// Files that cannot be read or written, work left by another recipe, or what LibTorch refused.
pub fn make_teacher(options: &TeacherOptions, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut making = Making {
        recipe: &options.recipe,
        work: &options.work,
        device: options.device,
        kind: options.kind,
        threads: options.threads,
        say,
    };
    making.begin()?;
    let vocabulary = Vocabulary::of_words(&world::words());
    let tokenizer_folder = options.out.join("tokenizer");
    vocabulary.save(&tokenizer_folder, options.recipe.text_encoder.max_length)?;
    let tokenizer = ClipTokenizer::load(&tokenizer_folder)?;
    let vae = Autoencoder::make(&mut making)?;
    let examples = Examples::make(&mut making, &vae, &tokenizer)?;
    let denoiser = Denoiser::make(&mut making, &examples, &vocabulary)?;
    save(options, &vocabulary, &vae, &denoiser)?;
    making.say("report: painting and checking".to_owned());
    report::report(&making, &options.out)
}

/// Writes all that a diffusers pipeline needs, weights in f16 under the ordinary names.
fn save(
    options: &TeacherOptions,
    vocabulary: &Vocabulary,
    vae: &Autoencoder,
    denoiser: &Denoiser,
) -> Result<()> {
    let recipe = &options.recipe;
    let text_config = architecture::text_encoder(&recipe.text_encoder, vocabulary);
    for (name, config, weights, stem) in [
        (
            "vae",
            architecture::vae(&recipe.vae),
            &vae.weights,
            DIFFUSERS_STEM,
        ),
        ("unet", architecture::unet(recipe), &denoiser.unet, DIFFUSERS_STEM),
        (
            "text_encoder",
            text_config,
            &denoiser.text_encoder,
            TRANSFORMERS_STEM,
        ),
    ] {
        let folder = options.out.join(name);
        save_component(
            &folder,
            &config,
            &weights.to_kind(Kind::Half),
            stem,
            MAX_SHARD_BYTES,
        )?;
    }
    let scheduler = options.out.join("scheduler");
    std::fs::create_dir_all(&scheduler)
        .with_context(|| format!("the folder {} could not be made", scheduler.display()))?;
    write_json_atomic(
        &scheduler.join("scheduler_config.json"),
        &architecture::scheduler(),
    )?;
    write_json_atomic(
        &options.out.join("model_index.json"),
        &architecture::model_index(),
    )?;
    Ok(())
}

/// What every stage needs, and the files in the work folder.
struct Making<'a> {
    recipe: &'a Recipe,
    work: &'a Path,
    device: Device,
    kind: Kind,
    threads: usize,
    say: &'a mut dyn FnMut(&str),
}

impl Making<'_> {
    fn say(&mut self, line: String) {
        (self.say)(&line);
    }

    /// Makes the work folder, or checks that the work in it follows the same recipe.
    fn begin(&mut self) -> Result<()> {
        std::fs::create_dir_all(self.work)
            .with_context(|| format!("the folder {} could not be made", self.work.display()))?;
        let path = self.work.join("recipe.json");
        let recipe = serde_json::to_value(self.recipe)?;
        if path.exists() {
            let earlier = fewstep_models::weights::read_json(&path, "it says which recipe the work follows")?;
            ensure!(
                earlier == recipe,
                "the work in {} follows another recipe; remove it, or give another folder with --work",
                self.work.display()
            );
        }
        write_json_atomic(&path, &recipe)?;
        Ok(())
    }

    fn finished_path(&self, name: &str) -> PathBuf {
        self.work.join(format!("{name}.safetensors"))
    }

    fn checkpoint_path(&self, stage: &str) -> PathBuf {
        self.work.join(format!("{stage}-checkpoint.safetensors"))
    }

    /// The finished weights of this name, where an earlier run left them.
    fn finished(&mut self, name: &str, layout: &Arc<Layout>) -> Result<Option<Weights>> {
        let path = self.finished_path(name);
        if !path.exists() {
            return Ok(None);
        }
        let mut stored = read_tensors(&path)?;
        let tensors: Result<Vec<_>> = layout
            .specs()
            .iter()
            .map(|spec| {
                let tensor = stored.remove(&spec.name).filter(|t| t.size() == spec.shape);
                let tensor = tensor.with_context(|| {
                    format!("{} lacks {} of shape {:?}", path.display(), spec.name, spec.shape)
                })?;
                Ok(tensor.to_device(self.device))
            })
            .collect();
        self.say(format!("{name}: taken from {}", path.display()));
        Ok(Some(Weights::new(layout.clone(), tensors?)))
    }

    /// Keeps the finished weights of this name.
    fn finish(&mut self, name: &str, weights: &Weights) -> Result<()> {
        write_tensors(&self.finished_path(name), weights.named(), &Default::default())?;
        Ok(())
    }

    /// Goes on from the stage's checkpoint, where there is one.
    fn resume(&mut self, stage: &str, trained: &mut Trained) -> Result<()> {
        let path = self.checkpoint_path(stage);
        if path.exists() {
            trained.restore(&path)?;
            self.say(format!("{stage}: goes on from step {}", trained.step()));
        }
        Ok(())
    }

    /// Says and saves what is due.
    fn after_update(&mut self, stage: &str, trained: &Trained, due: Due) -> Result<()> {
        if let Some(line) = due.line {
            self.say(line);
        }
        if due.save {
            trained.save(&self.checkpoint_path(stage))?;
        }
        Ok(())
    }
}
