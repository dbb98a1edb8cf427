//! What is compared: the rows of the tables and of the grid, and what was measured of each.

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
    /// The student, in so many steps.
    Student(i64),
}

impl Row {
    /// The rows of a table.
    pub(super) const TABLE: [Row; 11] = [
        Row::Real,
        Row::RoundTrip,
        Row::Teacher(50),
        Row::Teacher(8),
        Row::Teacher(4),
        Row::Teacher(2),
        Row::Teacher(1),
        Row::Student(1),
        Row::Student(2),
        Row::Student(4),
        Row::Student(8),
    ];

    /// The rows of a grid of pictures.
    pub(super) const GRID: [Row; 9] = [
        Row::Real,
        Row::Teacher(50),
        Row::Teacher(8),
        Row::Teacher(4),
        Row::Teacher(2),
        Row::Student(1),
        Row::Student(2),
        Row::Student(4),
        Row::Student(8),
    ];

    /// Its name.
    pub(super) fn label(self) -> String {
        match self {
            Row::Real => "real".to_owned(),
            Row::RoundTrip => "through the VAE".to_owned(),
            Row::Teacher(steps) => format!("teacher {steps}"),
            Row::Student(steps) => format!("student {steps}"),
        }
    }

    /// How often the UNet is evaluated for a picture: guidance costs the teacher two a step.
    pub(super) fn evaluations(self) -> Option<i64> {
        match self {
            Row::Real | Row::RoundTrip => None,
            Row::Teacher(steps) => Some(2 * steps),
            Row::Student(steps) => Some(steps),
        }
    }

    /// How it is painted, where it is.
    pub(super) fn sampler(self) -> Option<Sampler> {
        match self {
            Row::Real | Row::RoundTrip => None,
            Row::Teacher(steps) => Some(Sampler::Ddim(steps)),
            Row::Student(steps) => Some(Sampler::Lcm(steps)),
        }
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
    /// In the order of [`Row::TABLE`].
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
        let two = result(Row::Student(4), &[0.8, 0.9]);
        assert!((two.attributes() - 0.85).abs() < 1e-12);
        assert!((two.spread(|m| m.score.mean).unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(result(Row::Real, &[1.0]).spread(|m| m.texture), None);
    }
}
