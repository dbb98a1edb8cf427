//! The results, as text for the terminal, and as files: results.md, results.json and a grid for each guidance
//! scale.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fewstep_models::weights::{ModelError, write_atomic, write_json_atomic};
use serde_json::{Value, json};
use tch::Kind;

use super::cost::Cost;
use super::evaluate::Evaluated;
use super::rows::{RowResult, Section};
use super::student::Student;
use super::{DemoOptions, Size, gates, grid, table};
use crate::judge::Score;

/// How long the parts took in this call. What an earlier one had done already took it no time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Durations {
    pub(super) drawn: Duration,
    pub(super) distilled: Duration,
    pub(super) evaluated: Duration,
}

/// Everything that there is to tell.
#[derive(Debug)]
pub(super) struct Results<'a> {
    options: &'a DemoOptions,
    costs: Vec<Cost>,
    evaluated: Evaluated,
    durations: Durations,
}

impl<'a> Results<'a> {
    pub(super) fn new(
        options: &'a DemoOptions,
        costs: Vec<Cost>,
        evaluated: Evaluated,
        durations: Durations,
    ) -> Self {
        Results {
            options,
            costs,
            evaluated,
            durations,
        }
    }

    /// Writes the files into `out`, and returns the text.
    pub(super) fn write(&self, out: &Path) -> Result<String> {
        let mut grids = Vec::new();
        for (section, rows) in self.evaluated.sections.iter().zip(&self.evaluated.grids) {
            let first = grids.is_empty();
            let name = match first {
                true => "grid.png".to_owned(),
                false => format!("grid-guidance-{}.png", section.guidance),
            };
            let mut bytes = Cursor::new(Vec::new());
            grid::grid(&format!("guidance {}", section.guidance), rows)
                .write_to(&mut bytes, image::ImageFormat::Png)
                .context("a grid could not be encoded as PNG")?;
            write_bytes(&out.join(&name), bytes.get_ref())?;
            grids.push(name);
        }
        let mut text = self.text();
        write_json_atomic(&out.join("results.json"), &self.json())?;
        write_bytes(&out.join("results.md"), self.markdown(&text, &grids).as_bytes())?;
        let folder = out.display();
        let _ = write!(
            text,
            "\nin {folder}: results.md, results.json, {}",
            grids.join(", ")
        );
        Ok(text)
    }

    /// Tables, and what they show.
    fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.evaluated.sections {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                text,
                "\nguidance {}\n\n{}",
                section.guidance,
                table::table(section)
            );
            for sentence in gates::sentences(section) {
                let _ = writeln!(text, "- {sentence}");
            }
        }
        let _ = writeln!(
            text,
            "\n{}\n{}",
            table::costs(&self.costs, &self.evaluated.sections),
            self.notes()
        );
        let _ = writeln!(text, "{}", self.settings());
        text
    }

    /// What the table of costs means.
    fn notes(&self) -> String {
        let mut text = "Trained: the numbers in the file; training: the seconds of all steps; memory: the most that was in \
                        use at the end of a step; at a guidance: the share of attributes that is right in 4 steps.\n"
            .to_owned();
        if self.costs.iter().any(|cost| cost.student == Student::Lora) {
            text.push_str(
                "The guidance of the LoRA is in its adapters. It is painted without any other, so its rows are the same at \
                 every guidance.\n",
            );
        }
        text
    }

    fn markdown(&self, text: &str, grids: &[String]) -> String {
        let mut markdown = format!("# Results of the demo\n{text}");
        for (section, name) in self.evaluated.sections.iter().zip(grids) {
            let _ = writeln!(markdown, "\n![guidance {}]({name})", section.guidance);
        }
        markdown.push_str("\nThe captions of the grid's columns:\n\n");
        for caption in &self.evaluated.captions {
            let _ = writeln!(markdown, "1. {caption}");
        }
        markdown
    }

    fn settings(&self) -> String {
        let evaluation = &self.evaluated.evaluation;
        let Durations {
            drawn,
            distilled,
            evaluated,
        } = self.durations;
        let mut text = String::new();
        if self.options.size == Size::Quick {
            text.push_str(
                "This was the quick demo: its student had fewer steps and its pictures are few, so its numbers say \
                 only that everything runs. `cargo xtask demo` without --quick does all of it.\n",
            );
        }
        let seeds = match evaluation.seeds.len() {
            1 => "one seed".to_owned(),
            n => format!("{n} seeds, the mean and half their distance (±)"),
        };
        let _ = write!(
            text,
            "{} captions, {seeds}; {} on {}, {} threads. This call took {:.0} s to draw shards, {:.0} s to \
             distil and {:.0} s to evaluate.",
            evaluation.pictures,
            self.dtype(),
            self.device(),
            tch::get_num_threads(),
            drawn.as_secs_f64(),
            distilled.as_secs_f64(),
            evaluated.as_secs_f64()
        );
        text
    }

    fn dtype(&self) -> &'static str {
        match self.options.dtype {
            Kind::BFloat16 => "bf16",
            _ => "f32",
        }
    }

    fn device(&self) -> String {
        match self.options.device {
            tch::Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let evaluation = &self.evaluated.evaluation;
        json!({
            "quick": self.options.size == Size::Quick,
            "teacher": self.options.teacher,
            "pictures": evaluation.pictures,
            "seeds": evaluation.seeds,
            "device": self.device(),
            "dtype": self.dtype(),
            "threads": tch::get_num_threads(),
            "seconds": {
                "shards": self.durations.drawn.as_secs_f64(),
                "distillation": self.durations.distilled.as_secs_f64(),
                "evaluation": self.durations.evaluated.as_secs_f64(),
            },
            "students": self.costs.iter().map(cost_json).collect::<Vec<_>>(),
            "sections": self.evaluated.sections.iter().map(section_json).collect::<Vec<_>>(),
        })
    }
}

fn cost_json(cost: &Cost) -> Value {
    json!({
        "student": cost.student.name(),
        "weights": cost.weights,
        "trained": cost.trained,
        "bytes": cost.bytes,
        "steps": cost.steps,
        "seconds": cost.seconds,
        "memory_gb": cost.memory_gb,
    })
}

fn section_json(section: &Section) -> Value {
    json!({
        "guidance": section.guidance,
        "rows": section.rows.iter().map(row_json).collect::<Vec<_>>(),
        "comparisons": gates::sentences(section),
    })
}

fn row_json(result: &RowResult) -> Value {
    let seeds: Vec<Value> = result
        .seeds
        .iter()
        .map(|measured| {
            let parts = Score::PARTS.iter().zip(measured.score.parts);
            json!({
                "attributes": measured.score.mean,
                "all_nine": measured.score.all,
                "texture": measured.texture,
                "parts": parts.map(|(name, part)| ((*name).to_owned(), part.into())).collect::<serde_json::Map<_, _>>(),
            })
        })
        .collect();
    json!({
        "pictures": result.row.label(),
        "unet_evaluations": result.row.evaluations(),
        "seconds_per_picture": result.seconds,
        "seeds": seeds,
    })
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |file| {
        file.write_all(bytes)
            .map_err(|error| ModelError::io("write", path, error))
    })?;
    Ok(())
}
