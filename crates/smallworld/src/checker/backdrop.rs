//! Judging the background: its colour, and which pattern it carries, by four numbers that tell the patterns
//! apart wherever they start, however long they are, and through a little blur.

use anyhow::{Result, ensure};

use super::objects::colour_of;
use crate::linear;
use crate::world::{BACKGROUND_RGB, BackgroundColour, Pattern, SIDE};

/// Outlines are darker than this, backgrounds brighter.
const OUTLINE: f32 = 0.36;
/// Pixels this near to an object are not judged.
const REACH: usize = 3;
/// Fewer pixels of background are too few to judge.
const LEAST_AREA: usize = 200;
/// Contrast that is nothing yet, as a share of the brightness: it keeps noise from looking like a pattern.
const NO_CONTRAST: f64 = 0.02;
/// A class's variance of a number is taken to be at least this share of its variance within all classes.
const LEAST_SPREAD: f64 = 0.25;

const FEATURES: usize = 4;

/// What a background looks like.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) colour: BackgroundColour,
    /// Contrast (logarithm), skewness, the share of gradients along one direction (stripes), and how much
    /// more of them lie along the axes than between (chessboards).
    features: [f64; FEATURES],
}

impl Look {
    /// Looks at all pixels away from objects; nothing where they are too few.
    pub(super) fn new(colours: &[[f32; 3]], luma: &[f32]) -> Option<Self> {
        let background = away_from_objects(colours);
        let area = background.iter().filter(|&&b| b).count();
        if area < LEAST_AREA {
            return None;
        }
        let residual = residual(&smoothed(luma, &background), &background)?;
        Some(Look {
            colour: nearest_colour(colours, &background)?,
            features: features(&residual, &background),
        })
    }
}

/// Which pixels have no pixel of an object or an outline within reach.
fn away_from_objects(colours: &[[f32; 3]]) -> Vec<bool> {
    let mut background = vec![true; colours.len()];
    for (pixel, &rgb) in colours.iter().enumerate() {
        let dark = rgb.iter().all(|&c| c < OUTLINE);
        if !dark && colour_of(rgb).is_none() {
            continue;
        }
        let (x, y) = (pixel % SIDE, pixel / SIDE);
        for row in y.saturating_sub(REACH)..(y + REACH + 1).min(SIDE) {
            let from = row * SIDE + x.saturating_sub(REACH);
            let to = row * SIDE + (x + REACH + 1).min(SIDE);
            background[from..to].fill(false);
        }
    }
    background
}

/// The colour whose direction in RGB is nearest to the mean's: light and pattern do not turn it.
fn nearest_colour(colours: &[[f32; 3]], background: &[bool]) -> Option<BackgroundColour> {
    let mut mean = [0.0; 3];
    for (rgb, _) in colours.iter().zip(background).filter(|(_, b)| **b) {
        for (sum, c) in mean.iter_mut().zip(rgb) {
            *sum += c;
        }
    }
    let cosine = |colour: &BackgroundColour| {
        let rgb = BACKGROUND_RGB[colour.index()];
        let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        dot(rgb, mean) / dot(rgb, rgb).sqrt()
    };
    BackgroundColour::ALL
        .iter()
        .copied()
        .max_by(|a, b| cosine(a).total_cmp(&cosine(b)))
}

/// The mean over each background pixel and its neighbours in the background.
fn smoothed(luma: &[f32], background: &[bool]) -> Vec<f64> {
    let mut out = vec![0.0; luma.len()];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (mut sum, mut count) = (0.0, 0.0);
            for row in y.saturating_sub(1)..(y + 2).min(SIDE) {
                for column in x.saturating_sub(1)..(x + 2).min(SIDE) {
                    if background[row * SIDE + column] {
                        sum += f64::from(luma[row * SIDE + column]);
                        count += 1.0;
                    }
                }
            }
            if count > 0.0 {
                out[y * SIDE + x] = sum / count;
            }
        }
    }
    out
}

/// What is left of the brightness, as a share of its mean, when the best plane (the light) is taken out.
fn residual(luma: &[f64], background: &[bool]) -> Option<Vec<f64>> {
    let place = |pixel: usize| {
        let unit = |i: usize| i as f64 / (SIDE as f64 / 2.0) - 1.0;
        [1.0, unit(pixel % SIDE), unit(pixel / SIDE)]
    };
    let mut normal = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for pixel in (0..luma.len()).filter(|&p| background[p]) {
        let basis = place(pixel);
        for i in 0..3 {
            for j in 0..3 {
                normal[i][j] += basis[i] * basis[j];
            }
            right[i] += basis[i] * luma[pixel];
        }
    }
    let mean = right[0] / normal[0][0];
    let plane = linear::solve3(normal, right)?;
    let at = |basis: [f64; 3]| -> f64 { basis.iter().zip(plane).map(|(b, p)| b * p).sum() };
    Some(
        (0..luma.len())
            .map(|p| (luma[p] - at(place(p))) / mean.max(NO_CONTRAST))
            .collect(),
    )
}

fn features(residual: &[f64], background: &[bool]) -> [f64; FEATURES] {
    let (mut second, mut third, mut count) = (0.0, 0.0, 0.0);
    // Sums of |g|^2, and of it times e^(2i a) and e^(4i a), where `a` is the direction of the gradient g.
    let (mut energy, mut twofold, mut fourfold) = (0.0, [0.0; 2], 0.0);
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let pixel = y * SIDE + x;
            if !background[pixel] {
                continue;
            }
            second += residual[pixel].powi(2);
            third += residual[pixel].powi(3);
            count += 1.0;
            let around = [pixel - 1, pixel + 1, pixel - SIDE, pixel + SIDE];
            if around.iter().all(|&p| background[p]) {
                let gx = (residual[pixel + 1] - residual[pixel - 1]) / 2.0;
                let gy = (residual[pixel + SIDE] - residual[pixel - SIDE]) / 2.0;
                let [re, im] = [gx * gx - gy * gy, 2.0 * gx * gy];
                let square = gx * gx + gy * gy;
                energy += square;
                twofold[0] += re;
                twofold[1] += im;
                if square > 0.0 {
                    fourfold += (re * re - im * im) / square;
                }
            }
        }
    }
    let count = f64::max(count, 1.0);
    let variance = second / count + NO_CONTRAST.powi(2);
    let energy = energy + count * (NO_CONTRAST / 4.0).powi(2);
    [
        variance.ln() / 2.0,
        third / count / variance.powf(1.5),
        twofold[0].hypot(twofold[1]) / energy,
        fourfold / energy,
    ]
}

/// Where the numbers of each pattern lie: a normal distribution for each pattern and number.
#[derive(Debug, Clone)]
pub(super) struct PatternModel {
    means: Vec<[f64; FEATURES]>,
    variances: Vec<[f64; FEATURES]>,
}

impl PatternModel {
    /// Learns from backgrounds of known pattern.
    pub(super) fn calibrate(looks: &[(Pattern, Look)]) -> Result<Self> {
        let mut model = PatternModel {
            means: Vec::new(),
            variances: Vec::new(),
        };
        for &pattern in Pattern::ALL {
            let features: Vec<_> = looks
                .iter()
                .filter(|(p, _)| *p == pattern)
                .map(|(_, look)| look.features)
                .collect();
            ensure!(
                features.len() > 1,
                "fewer than two {} backgrounds were among the pictures to calibrate on; give more of them",
                pattern.words()
            );
            let n = features.len() as f64;
            let mean = |i: usize| features.iter().map(|f| f[i]).sum::<f64>() / n;
            let means: [f64; FEATURES] = std::array::from_fn(mean);
            let variance = |i: usize| features.iter().map(|f| (f[i] - means[i]).powi(2)).sum::<f64>() / n;
            model.variances.push(std::array::from_fn(variance));
            model.means.push(means);
        }
        let classes = model.variances.len() as f64;
        for i in 0..FEATURES {
            let pooled = model.variances.iter().map(|v| v[i]).sum::<f64>() / classes;
            for variances in &mut model.variances {
                variances[i] = variances[i].max(LEAST_SPREAD * pooled);
            }
        }
        Ok(model)
    }

    /// The pattern under which these numbers are likeliest.
    pub(super) fn pattern(&self, look: &Look) -> Pattern {
        let unlikeliness = |pattern: &Pattern| -> f64 {
            let (means, variances) = (&self.means[pattern.index()], &self.variances[pattern.index()]);
            (0..FEATURES)
                .map(|i| (look.features[i] - means[i]).powi(2) / variances[i] + variances[i].ln())
                .sum()
        };
        let likeliest = Pattern::ALL
            .iter()
            .copied()
            .min_by(|a, b| unlikeliness(a).total_cmp(&unlikeliness(b)));
        likeliest.unwrap_or(Pattern::Plain)
    }
}
