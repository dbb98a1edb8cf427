//! The Frechet distance between two sets of pictures: between the normal distributions fitted to their
//! texture features (38 named numbers a picture, see `features`).
//!
//! Its value depends on how many pictures there are: compare only sets of equal size against one reference.

mod features;

pub use features::{FEATURES, feature_names, features};

use anyhow::{Result, ensure};

use crate::linear::Matrix;
use crate::world::Picture;

/// The normal distribution fitted to a set of pictures.
#[derive(Debug, Clone)]
pub struct Texture {
    mean: Vec<f64>,
    covariance: Matrix,
}

impl Texture {
    /// Fits mean and covariance to the pictures' features.
    ///
    /// # Errors
    /// Fewer than two pictures.
    pub fn fit<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Result<Self> {
        let rows: Vec<[f64; FEATURES]> = pictures.into_iter().map(features).collect();
        ensure!(
            rows.len() > 1,
            "a covariance needs at least two pictures, and there are {}",
            rows.len()
        );
        let n = rows.len() as f64;
        let mean: Vec<f64> = (0..FEATURES)
            .map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n)
            .collect();
        let covariance = Matrix::from_fn(FEATURES, |i, j| {
            let sum: f64 = rows
                .iter()
                .map(|row| (row[i] - mean[i]) * (row[j] - mean[j]))
                .sum();
            sum / (n - 1.0)
        });
        Ok(Texture { mean, covariance })
    }

    /// `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)` (Dowson and Landau, 1982).
    pub fn distance(&self, other: &Texture) -> f64 {
        let apart: f64 = self
            .mean
            .iter()
            .zip(&other.mean)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let root = self.covariance.symmetric_root();
        let product = root.times(&other.covariance).times(&root);
        // Rounding leaves it a little unsymmetric.
        let product = Matrix::from_fn(FEATURES, |i, j| (product.at(i, j) + product.at(j, i)) / 2.0);
        let (values, _) = product.symmetric_eigen();
        let shared: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
        apart + self.covariance.trace() + other.covariance.trace() - 2.0 * shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{SIDE, Scene, render};

    fn pictures(from: u64) -> Vec<Picture> {
        (from..from + 200).map(|n| render(&Scene::draw(1, n))).collect()
    }

    /// Mixes every pixel with its right neighbour: what a sampler with too few steps does, mildly.
    fn blurred(picture: &Picture) -> Picture {
        let colours = picture.colours();
        Picture::from_fn(|x, y| {
            let (here, right) = (colours[y * SIDE + x], colours[y * SIDE + (x + 1).min(SIDE - 1)]);
            [0, 1, 2].map(|c| (here[c] + right[c]) / 2.0)
        })
    }

    #[test]
    fn it_is_0_for_the_same_set_small_for_the_same_world_and_grows_with_blur() {
        let reference = Texture::fit(&pictures(0)).unwrap();
        let others = pictures(1000);
        let soft: Vec<_> = others.iter().map(blurred).collect();
        let softer: Vec<_> = soft.iter().map(blurred).collect();
        let from = |set: &[Picture]| reference.distance(&Texture::fit(set).unwrap());
        let distances = [from(&pictures(0)), from(&others), from(&soft), from(&softer)];
        assert!(distances[0].abs() < 1e-6, "{distances:?}");
        assert!(distances[1] < 0.03, "{distances:?}");
        assert!(distances[2] > 3.0 * distances[1], "{distances:?}");
        assert!(distances[3] > 1.5 * distances[2], "{distances:?}");
    }

    #[test]
    fn the_formula_on_a_known_case() {
        // Equal covariances leave the distance of the means; covariance s^2 against t^2 gives (s - t)^2.
        let normal = |mean: f64, deviation: f64| Texture {
            mean: vec![mean; FEATURES],
            covariance: Matrix::from_fn(FEATURES, |i, j| if i == j { deviation * deviation } else { 0.0 }),
        };
        let got = normal(0.0, 1.0).distance(&normal(2.0, 3.0));
        assert!((got - FEATURES as f64 * (4.0 + 4.0)).abs() < 1e-9, "{got}");
    }
}
