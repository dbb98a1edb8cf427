//! What became of a teacher: how well its VAE keeps pictures, and how many attributes its pictures have
//! right, by 50 steps of DDIM with guidance. It judges the files that were written, as others will load them.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use fewstep_models::weights::Folder;
use tch::Kind;

use super::Making;
use super::recipe::ReportRecipe;
use crate::judge::{Judge, Score, Vae, drawn};
use crate::paint::{Painter, Sampler, Unet};
use crate::world::{Picture, caption};

const STEPS: i64 = 50;
const GUIDANCE: [f64; 2] = [4.0, 8.0];
/// Scenes are numbered from here, away from those of the training.
const FIRST_SCENE: u64 = 2 << 32;

/// How a teacher does.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of pictures through the VAE, in dB.
    pub psnr: f64,
    /// What the checker says of real pictures, of the same through the VAE, and of painted ones, by name.
    pub rows: Vec<(String, Score)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the VAE keeps pictures to {:.1} dB", self.psnr)?;
        write!(
            f,
            "{:<28} {:>6} {:>6}  size   colour shape  relat. patt.  backg.",
            "pictures", "mean", "all"
        )?;
        for (name, score) in &self.rows {
            write!(f, "\n{name:<28} {:>6.3} {:>6.3} ", score.mean, score.all)?;
            for part in score.parts {
                write!(f, " {part:<6.3}")?;
            }
        }
        Ok(())
    }
}

/// Judges the teacher in the folder `model`.
pub(super) fn report(making: &Making<'_>, model: &Path) -> Result<Report> {
    let seed = making.recipe.seed;
    let ReportRecipe {
        pictures,
        calibration,
    } = making.recipe.report;
    let model = Folder::open(model)?;
    let vae = Vae::load(&model, making.device)?;
    let first_example = FIRST_SCENE + pictures;
    let judge = Judge::calibrate(seed, first_example..first_example + calibration, &vae)?;

    let (scenes, real) = drawn(seed, FIRST_SCENE..FIRST_SCENE + pictures);
    let kept = vae.round_trip(&real)?;
    let mut rows = vec![
        ("real".to_owned(), judge.score(&scenes, &real)),
        ("through the VAE".to_owned(), judge.score(&scenes, &kept)),
    ];
    let captions: Vec<String> = scenes.iter().map(caption).collect();
    let painter = Painter::load(&model, Unet::Own, making.device, Kind::Float)?;
    for guidance in GUIDANCE {
        let painted = painter.paint(&captions, Sampler::Ddim(STEPS), guidance, seed, |_| Ok(()))?;
        rows.push((
            format!("painted, {STEPS} steps, guidance {guidance}"),
            judge.score(&scenes, &painted),
        ));
        let path = making.work.join(format!("painted-guidance-{guidance}.png"));
        grid(&painted).save(&path)?;
    }
    Ok(Report {
        psnr: psnr(&real, &kept),
        rows,
    })
}

/// Sixteen pictures a row.
fn grid(pictures: &[Picture]) -> image::RgbImage {
    const COLUMNS: usize = 16;
    const STEP: usize = crate::world::SIDE + 2;
    let rows = pictures.len().div_ceil(COLUMNS);
    let mut grid = image::RgbImage::new((COLUMNS * STEP) as u32, (rows * STEP) as u32);
    for (i, picture) in pictures.iter().enumerate() {
        let (x, y) = (i % COLUMNS * STEP, i / COLUMNS * STEP);
        image::imageops::replace(&mut grid, &picture.to_image(), x as i64, y as i64);
    }
    grid
}

fn psnr(real: &[Picture], kept: &[Picture]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (a, b) in real.iter().zip(kept) {
        for (x, y) in a.planes().zip(b.planes()) {
            sum += (f64::from(x) - f64::from(y)).powi(2);
            count += 1.0;
        }
    }
    10.0 * (255.0f64.powi(2) * count / f64::max(sum, 1.0)).log10()
}
