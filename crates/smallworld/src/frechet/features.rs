//! The texture features of a picture: how its edges, its colours and its brightness are distributed, not
//! where they are. They tell clean pictures from blurred or washed-out ones.

use crate::world::{Picture, SIDE};

/// The quantiles of each distribution.
const QUANTILES: [f64; 9] = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995];
/// The distributions whose quantiles are taken, and the weight of each.
const DISTRIBUTIONS: [(&str, f64); 4] = [
    ("gradient", 3.0),
    ("laplacian", 3.0),
    ("saturation", 1.0),
    ("luma", 1.0),
];
/// Darker than every background, brighter than the outlines.
const DARK: f32 = 0.25;
/// The weight of the share of dark pixels.
const DARK_WEIGHT: f64 = 5.0;
/// More saturated than every background.
const SATURATED: f32 = 0.55;
/// The weight of the share of saturated pixels.
const SATURATED_WEIGHT: f64 = 2.0;

/// How many features a picture has.
pub const FEATURES: usize = QUANTILES.len() * DISTRIBUTIONS.len() + 2;

/// What each feature is, in order.
pub fn feature_names() -> Vec<String> {
    let quantiles = DISTRIBUTIONS
        .iter()
        .flat_map(|(name, weight)| QUANTILES.map(|q| format!("{weight} x quantile {q} of {name}")));
    let shares = [
        format!("{DARK_WEIGHT} x share of dark pixels"),
        format!("{SATURATED_WEIGHT} x share of saturated pixels"),
    ];
    quantiles.chain(shares).collect()
}

/// The features of one picture.
pub fn features(picture: &Picture) -> [f64; FEATURES] {
    let luma = picture.luma();
    let at = |x: usize, y: usize| luma[y * SIDE + x];
    let mut gradient = Vec::with_capacity(luma.len());
    let mut laplacian = Vec::with_capacity(luma.len());
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let [left, right, up, down] = [at(x - 1, y), at(x + 1, y), at(x, y - 1), at(x, y + 1)];
            gradient.push(((right - left) / 2.0).hypot((down - up) / 2.0));
            laplacian.push((left + right + up + down - 4.0 * at(x, y)).abs());
        }
    }
    let saturation: Vec<f32> = picture.pixels().iter().map(saturation).collect();
    let dark = share(&luma, |l| l < DARK);
    let saturated = share(&saturation, |s| s > SATURATED);

    let mut features = [0.0; FEATURES];
    let mut places = features.iter_mut();
    for (mut values, (_, weight)) in [gradient, laplacian, saturation, luma]
        .into_iter()
        .zip(DISTRIBUTIONS)
    {
        values.sort_unstable_by(f32::total_cmp);
        for (quantile, place) in QUANTILES.iter().zip(&mut places) {
            *place = weight * quantile_of(&values, *quantile);
        }
    }
    for (value, place) in [DARK_WEIGHT * dark, SATURATED_WEIGHT * saturated]
        .into_iter()
        .zip(places)
    {
        *place = value;
    }
    features
}

fn saturation(pixel: &[u8; 3]) -> f32 {
    let [r, g, b] = pixel.map(f32::from);
    let brightest = r.max(g).max(b);
    if brightest == 0.0 {
        0.0
    } else {
        (brightest - r.min(g).min(b)) / brightest
    }
}

fn share(values: &[f32], belongs: impl Fn(f32) -> bool) -> f64 {
    values.iter().filter(|&&v| belongs(v)).count() as f64 / values.len() as f64
}

/// The quantile of sorted values, linear between neighbours.
fn quantile_of(sorted: &[f32], quantile: f64) -> f64 {
    let place = quantile * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = place - below as f64;
    f64::from(sorted[below]) * (1.0 - share) + f64::from(sorted[above]) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_match() {
        assert_eq!(feature_names().len(), FEATURES);
        assert_eq!(FEATURES, 38);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sorted = [0.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile_of(&sorted, 0.5), 1.5);
        assert_eq!(quantile_of(&sorted, 1.0), 4.0);
    }

    #[test]
    fn a_flat_picture_has_no_edges() {
        let flat = features(&Picture::from_fn(|_, _| [0.5; 3]));
        assert!(flat[..27].iter().all(|&f| f == 0.0), "{flat:?}");
        assert!(flat[27..36].iter().all(|&f| (f - 0.5).abs() < 0.01), "{flat:?}");
    }
}
