//! The evaluation: the same captions and seeds for teacher and students, judged by the same checker and against
//! the same real pictures.

use std::time::Instant;

use anyhow::Result;
use fewstep_models::weights::Folder;
use fewstep_train::Stop;

use super::rows::{Measured, Row, RowResult, Section};
use super::student::{Distilled, Student};
use super::{DemoOptions, WORLD_SEED, go_on};
use crate::frechet::Texture;
use crate::judge::{Judge, Vae, drawn};
use crate::paint::{Painter, Sampler, Unet};
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
    /// The pictures of each section's grid, in the order of [`Row::grid`].
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
        distilled: &[Distilled],
        stop: &Stop,
        say: &mut dyn FnMut(&str),
    ) -> Result<Evaluated> {
        say("calibrating the checker");
        let mut bench = Bench::new(&self, options, teacher, distilled, stop, say)?;
        let students: Vec<Student> = distilled.iter().map(|done| done.student).collect();
        let shown = Row::grid(&students);
        let mut sections = Vec::new();
        let mut grids = Vec::new();
        for &guidance in &self.guidance {
            let mut rows = Vec::new();
            let mut grid = Vec::new();
            for row in Row::table(&students) {
                let (result, first) = bench.result(row, guidance)?;
                rows.push(result);
                if shown.contains(&row) {
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
    students: Vec<(Student, Painter)>,
    /// Rows that are the same at every guidance scale, once they are measured.
    once: Vec<(RowResult, Vec<Picture>)>,
    stop: &'a Stop,
    say: &'a mut dyn FnMut(&str),
}

impl<'a> Bench<'a> {
    fn new(
        evaluation: &'a Evaluation,
        options: &DemoOptions,
        teacher: &Folder,
        distilled: &[Distilled],
        stop: &'a Stop,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        let vae = Vae::load(teacher, options.device)?;
        let judge = Judge::calibrate(WORLD_SEED, FIRST_EXAMPLE..FIRST_EXAMPLE + EXAMPLES, &vae)?;
        let (_, references) = drawn(WORLD_SEED, FIRST_REFERENCE..FIRST_REFERENCE + REFERENCES);
        let (scenes, real) = drawn(WORLD_SEED, FIRST_SCENE..FIRST_SCENE + evaluation.pictures);
        let load = |unet| Painter::load(teacher, unet, options.device, options.dtype);
        let students = distilled
            .iter()
            .map(|done| Ok((done.student, load(done.unet())?)));
        let bench = Bench {
            seeds: &evaluation.seeds,
            captions: scenes.iter().map(caption).collect(),
            kept: vae.round_trip(&real)?,
            scenes,
            real,
            judge,
            reference: Texture::fit(&references)?,
            teacher: load(Unet::Own)?,
            students: students.collect::<Result<_>>()?,
            once: Vec::new(),
            stop,
            say,
        };
        // The first pictures take longer than all others, and would be counted for the first row.
        let few = &bench.captions[..bench.captions.len().min(16)];
        bench.teacher.paint(few, Sampler::Ddim(1), 2.0, 0, |_| Ok(()))?;
        for (_, painter) in &bench.students {
            painter.paint(few, Sampler::Lcm(1), 2.0, 0, |_| Ok(()))?;
        }
        Ok(bench)
    }

    /// The result of a row, and the pictures of the grid's columns besides.
    fn result(&mut self, row: Row, guidance: f64) -> Result<(RowResult, Vec<Picture>)> {
        if let Some(known) = self.once.iter().find(|(result, _)| result.row == row) {
            return Ok(known.clone());
        }
        let measured = self.measure(row, guidance)?;
        if !row.is_guided() {
            self.once.push(measured.clone());
        }
        Ok(measured)
    }

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
        let when = match row.is_guided() {
            true => format!("guidance {guidance}, "),
            false => String::new(),
        };
        (self.say)(&format!(
            "{when}{}: {:.3} of the attributes, {:.3} all nine, texture {:.3}",
            row.label(),
            result.attributes(),
            result.mean(|m| m.score.all),
            result.mean(|m| m.texture)
        ));
        Ok((result, shown))
    }

    fn paint(&mut self, row: Row, sampler: Sampler, guidance: f64, seed: u64) -> Result<Vec<Picture>> {
        let theirs =
            |(student, _): &&(Student, Painter)| matches!(row, Row::Student(of, _) if of == *student);
        let painter = match self.students.iter().find(theirs) {
            Some((_, painter)) => painter,
            None => &self.teacher,
        };
        // The guidance of adapters is in them: more would be a second evaluation a step.
        let guidance = if row.is_guided() { guidance } else { 1.0 };
        painter.paint(&self.captions, sampler, guidance, seed, |_| go_on(self.stop))
    }

    fn judge(&self, pictures: &[Picture]) -> Result<Measured> {
        Ok(Measured {
            score: self.judge.score(&self.scenes, pictures),
            texture: self.reference.distance(&Texture::fit(pictures)?),
        })
    }
}
