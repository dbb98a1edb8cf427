//! The evaluation: the same captions and seeds for teacher and student, judged by the same checker and against
//! the same real pictures.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use fewstep_models::weights::Folder;
use fewstep_train::Stop;

use super::rows::{Measured, Row, RowResult, Section};
use super::{DemoOptions, WORLD_SEED, go_on};
use crate::frechet::Texture;
use crate::judge::{Judge, Vae, drawn};
use crate::paint::{Painter, Sampler};
use crate::world::{Picture, Scene, caption};

/// Scenes are numbered from here: those that are judged, those that the checker learns from, and those whose
/// texture is the reference. None of them is in a training set.
const FIRST_SCENE: u64 = 4 << 32;
const FIRST_EXAMPLE: u64 = 5 << 32;
const FIRST_REFERENCE: u64 = 6 << 32;
/// Pictures that the checker learns from.
const EXAMPLES: u64 = 1500;
/// Real pictures that textures are compared with.
const REFERENCES: u64 = 3000;
/// Columns of a grid: the first captions, whatever became of them.
const COLUMNS: usize = 10;

/// What is evaluated.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    /// Pictures of a row and seed.
    pub(super) pictures: u64,
    /// Of the noise that pictures are painted from.
    pub(super) seeds: Vec<u64>,
    /// Guidance scales.
    pub(super) guidance: Vec<f64>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) evaluation: Evaluation,
    /// A section for each guidance scale.
    pub(super) sections: Vec<Section>,
    /// The pictures of each section's grid, in the order of [`Row::GRID`].
    pub(super) grids: Vec<Vec<(Row, Vec<Picture>)>>,
    /// The captions of the grids' columns.
    pub(super) captions: Vec<String>,
}

impl Evaluation {
    /// Paints and judges everything.
    pub(super) fn run(
        self,
        options: &DemoOptions,
        teacher: &Folder,
        student: &Path,
        stop: &Stop,
        say: &mut dyn FnMut(&str),
    ) -> Result<Evaluated> {
        say("calibrating the checker");
        let mut bench = Bench::new(&self, options, teacher, student, stop, say)?;
        let mut sections = Vec::new();
        let mut grids = Vec::new();
        for &guidance in &self.guidance {
            let mut rows = Vec::new();
            let mut grid = Vec::new();
            for row in Row::TABLE {
                let (result, first) = bench.measure(row, guidance)?;
                rows.push(result);
                if Row::GRID.contains(&row) {
                    grid.push((row, first));
                }
            }
            sections.push(Section { guidance, rows });
            grids.push(grid);
        }
        let captions = bench.captions.iter().take(COLUMNS).cloned().collect();
        Ok(Evaluated {
            evaluation: self,
            sections,
            grids,
            captions,
        })
    }
}

/// All that the rows share.
struct Bench<'a> {
    seeds: &'a [u64],
    scenes: Vec<Scene>,
    captions: Vec<String>,
    real: Vec<Picture>,
    kept: Vec<Picture>,
    judge: Judge,
    reference: Texture,
    teacher: Painter,
    student: Painter,
    stop: &'a Stop,
    say: &'a mut dyn FnMut(&str),
}

impl<'a> Bench<'a> {
    fn new(
        evaluation: &'a Evaluation,
        options: &DemoOptions,
        teacher: &Folder,
        student: &Path,
        stop: &'a Stop,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        let vae = Vae::load(teacher, options.device)?;
        let judge = Judge::calibrate(WORLD_SEED, FIRST_EXAMPLE..FIRST_EXAMPLE + EXAMPLES, &vae)?;
        let (_, references) = drawn(WORLD_SEED, FIRST_REFERENCE..FIRST_REFERENCE + REFERENCES);
        let (scenes, real) = drawn(WORLD_SEED, FIRST_SCENE..FIRST_SCENE + evaluation.pictures);
        let load = |unet| Painter::load(teacher, unet, options.device, options.dtype);
        let bench = Bench {
            seeds: &evaluation.seeds,
            captions: scenes.iter().map(caption).collect(),
            kept: vae.round_trip(&real)?,
            scenes,
            real,
            judge,
            reference: Texture::fit(&references)?,
            teacher: load(None)?,
            student: load(Some(student))?,
            stop,
            say,
        };
        // The first pictures take longer than all others, and would be counted for the first row.
        let few = &bench.captions[..bench.captions.len().min(16)];
        bench.teacher.paint(few, Sampler::Ddim(1), 2.0, 0, |_| Ok(()))?;
        bench.student.paint(few, Sampler::Lcm(1), 2.0, 0, |_| Ok(()))?;
        Ok(bench)
    }

    /// Measures a row, and returns the pictures of the grid's columns besides.
    fn measure(&mut self, row: Row, guidance: f64) -> Result<(RowResult, Vec<Picture>)> {
        let first = |pictures: &[Picture]| pictures.iter().take(COLUMNS).cloned().collect();
        let (seeds, seconds, shown) = match row.sampler() {
            None => {
                let pictures = if row == Row::Real { &self.real } else { &self.kept };
                (vec![self.judge(pictures)?], None, first(pictures))
            }
            Some(sampler) => {
                let mut seeds = Vec::new();
                let mut shown = Vec::new();
                let mut seconds = 0.0;
                for &seed in self.seeds {
                    let start = Instant::now();
                    let pictures = self.paint(row, sampler, guidance, seed)?;
                    seconds += start.elapsed().as_secs_f64();
                    seeds.push(self.judge(&pictures)?);
                    if shown.is_empty() {
                        shown = first(&pictures);
                    }
                }
                let painted = seeds.len() * self.captions.len();
                (seeds, Some(seconds / painted.max(1) as f64), shown)
            }
        };
        let result = RowResult { row, seeds, seconds };
        (self.say)(&format!(
            "guidance {guidance}, {}: {:.3} of the attributes, {:.3} all nine, texture {:.3}",
            row.label(),
            result.attributes(),
            result.mean(|m| m.score.all),
            result.mean(|m| m.texture)
        ));
        Ok((result, shown))
    }

    fn paint(&mut self, row: Row, sampler: Sampler, guidance: f64, seed: u64) -> Result<Vec<Picture>> {
        let painter = match row {
            Row::Student(_) => &self.student,
            _ => &self.teacher,
        };
        painter.paint(&self.captions, sampler, guidance, seed, |_| go_on(self.stop))
    }

    fn judge(&self, pictures: &[Picture]) -> Result<Measured> {
        Ok(Measured {
            score: self.judge.score(&self.scenes, pictures),
            texture: self.reference.distance(&Texture::fit(pictures)?),
        })
    }
}
