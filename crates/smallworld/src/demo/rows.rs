//! What is compared: the rows of the tables and of the grid, and what was measured of each.

use super::student::Student;
use crate::judge::Score;
use crate::paint::Sampler;

/// Where pictures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// The world itself.
    Real,
    /// The same pictures through the teacher's VAE: the most that anything painted in its latents can reach.
    RoundTrip,
    /// The teacher with classifier-free guidance, in so many DDIM steps.
    Teacher(i64),
    /// A student, in so many steps.
    Student(Student, i64),
}

impl Row {
    /// The rows of a table.
    pub(super) fn table(students: &[Student]) -> Vec<Row> {
        let teachers = [50, 8, 4, 2, 1].map(Row::Teacher);
        let own = [Row::Real, Row::RoundTrip].into_iter().chain(teachers);
        own.chain(Row::of(students)).collect()
    }

    /// The rows of a grid of pictures.
    pub(super) fn grid(students: &[Student]) -> Vec<Row> {
        let teachers = [50, 8, 4, 2].map(Row::Teacher);
        let own = [Row::Real].into_iter().chain(teachers);
        own.chain(Row::of(students)).collect()
    }

    /// The rows of the students, one after the other.
    fn of(students: &[Student]) -> impl Iterator<Item = Row> {
        let each = |&student: &Student| Student::STEPS.map(|steps| Row::Student(student, steps));
        students.iter().flat_map(each)
    }

    /// Its name.
    pub(super) fn label(self) -> String {
        match self {
            Row::Real => "real".to_owned(),
            Row::RoundTrip => "through the VAE".to_owned(),
            Row::Teacher(steps) => format!("teacher {steps}"),
            Row::Student(student, steps) => format!("{} {steps}", student.name()),
        }
    }

    /// How often the UNet is evaluated for a picture: guidance costs the teacher two a step.
    pub(super) fn evaluations(self) -> Option<i64> {
        match self {
            Row::Real | Row::RoundTrip => None,
            Row::Teacher(steps) => Some(2 * steps),
            Row::Student(_, steps) => Some(steps),
        }
    }

    /// How it is painted, where it is.
    pub(super) fn sampler(self) -> Option<Sampler> {
        match self {
            Row::Real | Row::RoundTrip => None,
            Row::Teacher(steps) => Some(Sampler::Ddim(steps)),
            Row::Student(_, steps) => Some(Sampler::Lcm(steps)),
        }
    }

    /// Whether it depends on the guidance scale.
    pub(super) fn is_guided(self) -> bool {
        matches!(self, Row::Teacher(_) | Row::Student(Student::Whole, _))
    }
}

/// What was measured of one set of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// By the checker.
    pub(super) score: Score,
    /// The Frechet distance of texture features from real pictures.
    pub(super) texture: f64,
}

/// What was measured of a row: one set of pictures a seed, and real pictures once.
#[derive(Debug, Clone)]
pub(super) struct RowResult {
    pub(super) row: Row,
    pub(super) seeds: Vec<Measured>,
    /// To paint a picture, from its caption to its pixels; real pictures are not painted.
    pub(super) seconds: Option<f64>,
}

impl RowResult {
    /// The mean over the seeds.
    pub(super) fn mean(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        self.seeds.iter().map(of).sum::<f64>() / self.seeds.len().max(1) as f64
    }

    /// Half the distance between the least and the largest of the seeds; nothing of a single one.
    pub(super) fn spread(&self, of: impl Fn(&Measured) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.seeds.iter().map(of).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (values.len() > 1).then(|| (largest - least) / 2.0)
    }

    /// The mean share of right attributes.
    pub(super) fn attributes(&self) -> f64 {
        self.mean(|m| m.score.mean)
    }
}

/// All rows at one guidance scale.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) guidance: f64,
    /// In the order of [`Row::table`].
    pub(super) rows: Vec<RowResult>,
}

impl Section {
    /// The result of a row, where it was measured.
    pub(super) fn row(&self, row: Row) -> Option<&RowResult> {
        self.rows.iter().find(|result| result.row == row)
    }
}

/// Results made up for tests.
#[cfg(test)]
pub(super) mod made_up {
    use super::*;

    pub(in crate::demo) fn result(row: Row, means: &[f64]) -> RowResult {
        let measured = |&mean: &f64| Measured {
            score: Score {
                mean,
                all: mean / 2.0,
                parts: [mean; 6],
            },
            texture: 1.0 - mean,
        };
        RowResult {
            row,
            seeds: means.iter().map(measured).collect(),
            seconds: row.evaluations().map(|n| n as f64 * 0.01),
        }
    }

    #[test]
    fn means_and_spreads_are_over_the_seeds() {
        let two = result(Row::Student(Student::Whole, 4), &[0.8, 0.9]);
        assert!((two.attributes() - 0.85).abs() < 1e-12);
        assert!((two.spread(|m| m.score.mean).unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(result(Row::Real, &[1.0]).spread(|m| m.texture), None);
    }
}
