//! Whole runs on a tiny model: their options, and what they leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewstep_models::weights::{read_tensors, write_tensors};
use fewstep_train::{Config, Event, NotFinite, Observer, Report, Skip, Start, StepMetrics, Stop, run};
use serde_json::Value;

use super::{config, fixtures, json};

/// Options of a run on tiny-sd, four samples a step.
pub(crate) fn options(output_dir: &Path, flags: &[(&str, &str)]) -> Config {
    let teacher = fixtures().join("models/tiny-sd");
    let shards = fixtures().join("data/good.tar");
    let mut all = vec![
        ("pretrained_teacher_model", teacher.to_str().unwrap()),
        ("train_shards_path_or_url", shards.to_str().unwrap()),
        ("output_dir", output_dir.to_str().unwrap()),
        ("resolution", "32"),
        ("train_batch_size", "4"),
        ("max_train_steps", "6"),
        ("learning_rate", "1e-3"),
        ("loss_type", "huber"),
        ("checkpointing_steps", "3"),
        ("seed", "11"),
        ("shuffle_buffer_size", "8"),
        ("random_flip", ""),
        ("proportion_empty_prompts", "0.3"),
    ];
    all.retain(|(name, _)| !flags.iter().any(|(other, _)| other == name));
    all.extend(flags);
    config(&all)
}

/// Asks a run to stop after a step.
pub(crate) struct StopAfter<'a>(pub(crate) u64, pub(crate) &'a Stop);

impl Observer for StopAfter<'_> {
    fn step(&mut self, metrics: &StepMetrics) {
        // The loss of a step is told one step later.
        if metrics.step + 1 == self.0 {
            self.1.ask();
        }
    }
}

/// Everything that a run tells.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) started: Option<Start>,
    pub(crate) events: Vec<Event>,
}

impl Observer for Told {
    fn started(&mut self, start: &Start) {
        self.started = Some(start.clone());
    }

    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }
}

impl Told {
    /// The step that the run went on after.
    pub(crate) fn resumed(&self) -> Option<u64> {
        Some(self.started.as_ref()?.resumed.as_ref()?.0)
    }

    pub(crate) fn not_finite(&self) -> Vec<&NotFinite> {
        let found = |event| match event {
            &Event::SkippedUpdate {
                cause: Skip::NotFinite(ref found),
                ..
            } => Some(found),
            _ => None,
        };
        self.events.iter().filter_map(found).collect()
    }
}

pub(crate) fn error(config: &Config) -> String {
    run(config, &Stop::new(), &mut ()).unwrap_err().to_string()
}

pub(crate) fn train(config: &Config) -> Report {
    run(config, &Stop::new(), &mut ()).unwrap()
}

/// The lines of metrics.jsonl.
pub(crate) fn lines(folder: &Path) -> Vec<Value> {
    std::fs::read_to_string(folder.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The losses of metrics.jsonl by step, each step once.
pub(crate) fn losses(folder: &Path) -> Vec<(u64, f64)> {
    lines(folder)
        .into_iter()
        .filter(|line| line.get("loss").is_some())
        .map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap()))
        .collect()
}

pub(crate) fn same_tensors(a: &Path, b: &Path) {
    let (a, b) = (read_tensors(a).unwrap(), read_tensors(b).unwrap());
    assert!(a.keys().eq(b.keys()));
    for (name, tensor) in &a {
        assert_eq!(*tensor, b[name], "{name}");
    }
}

pub(crate) fn weights(folder: &Path, part: &str) -> PathBuf {
    folder.join(part).join("diffusion_pytorch_model.safetensors")
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a whole student leaves in a folder.
pub(crate) const WHOLE: [&str; 2] = [
    "unet/diffusion_pytorch_model.safetensors",
    "unet_target/diffusion_pytorch_model.safetensors",
];
/// What adapters leave in one.
pub(crate) const ADAPTERS: &str = "pytorch_lora_weights.safetensors";
pub(crate) const AVERAGED_ADAPTERS: &str = "lora_target/pytorch_lora_weights.safetensors";

/// The tiny teacher with a word that its text encoder cannot bear: "triangle" becomes no number. Of the 24
/// samples of an epoch eight have it.
pub(crate) fn poisoned(folder: &Path) -> PathBuf {
    let (from, to) = (fixtures().join("models/tiny-sd"), folder.join("poisoned"));
    let mut left = vec![(from, to.clone())];
    while let Some((from, to)) = left.pop() {
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let place = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => left.push((entry.path(), place)),
                false => drop(std::fs::copy(entry.path(), place).unwrap()),
            }
        }
    }
    let vocabulary: Value = json(&to.join("tokenizer/vocab.json"));
    let path = to.join("text_encoder/model.safetensors");
    let tensors = read_tensors(&path).unwrap();
    let token = vocabulary["tri"].as_i64().unwrap();
    let embedding = &tensors["text_model.embeddings.token_embedding.weight"];
    let _ = embedding.get(token).fill_(f64::NAN);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&path, named, &BTreeMap::new()).unwrap();
    to
}
