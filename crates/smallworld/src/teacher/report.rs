//! What became of a teacher: how well its VAE keeps pictures, and how many attributes its pictures have
//! right, by 50 steps of DDIM with guidance.

use std::fmt;

use anyhow::Result;
use fewstep_draw::{Purpose, Stream};
use fewstep_models::clip::{ClipTextConfig, ClipTextModel, ClipTokenizer};
use fewstep_models::params::Weights;
use fewstep_models::schedule::{DdimSampler, SchedulerConfig, guide};
use fewstep_models::unet::{UNet2DConditionModel, UNetConfig, UNetInput};
use libtorch_ext::NoGrad;
use tch::{Kind, Tensor};

use super::autoencoder::Autoencoder;
use super::denoiser::Denoiser;
use super::recipe::ReportRecipe;
use super::tokenizer::Vocabulary;
use super::{Making, architecture, from_pixels, pixels};
use crate::checker::{ATTRIBUTES, Checker, Verdict};
use crate::world::{Picture, Scene, caption, render};

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

/// What the checker says of some pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The mean share of attributes that are right.
    pub mean: f64,
    /// The share of pictures with every attribute right.
    pub all: f64,
    /// The shares of sizes, colours, shapes, relations, patterns and background colours that are right.
    pub parts: [f64; 6],
}

impl Score {
    /// The score of these verdicts.
    pub fn new(verdicts: &[Verdict]) -> Self {
        let n = verdicts.len().max(1) as f64;
        let share = |of: &dyn Fn(&Verdict) -> f64| verdicts.iter().map(of).sum::<f64>() / n;
        let both = |pair: [bool; 2]| pair.iter().filter(|&&right| right).count() as f64 / 2.0;
        let one = |right: bool| f64::from(u8::from(right));
        Score {
            mean: share(&|v| v.right() as f64 / ATTRIBUTES as f64),
            all: share(&|v| one(v.all_right())),
            parts: [
                share(&|v| both(v.size)),
                share(&|v| both(v.colour)),
                share(&|v| both(v.shape)),
                share(&|v| one(v.relation)),
                share(&|v| one(v.pattern)),
                share(&|v| one(v.background)),
            ],
        }
    }
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

/// Judges the teacher.
pub(super) fn report(
    making: &Making<'_>,
    vocabulary: &Vocabulary,
    tokenizer: &ClipTokenizer,
    vae: &Autoencoder,
    denoiser: &Denoiser,
) -> Result<Report> {
    let _guard = NoGrad::new();
    let seed = making.recipe.seed;
    let ReportRecipe {
        pictures,
        calibration,
    } = making.recipe.report;
    let drawn = |numbers: std::ops::Range<u64>| -> Vec<(Scene, Picture)> {
        let scenes = numbers.map(|n| Scene::draw(seed, FIRST_SCENE + n));
        scenes.map(|scene| (scene, render(&scene))).collect()
    };
    let through_vae = |pictures: &[(Scene, Picture)]| -> Result<Vec<(Scene, Picture)>> {
        let mut out = Vec::new();
        for chunk in pictures.chunks(64) {
            let plain: Vec<Picture> = chunk.iter().map(|(_, p)| p.clone()).collect();
            let mean = vae
                .network
                .encode(&vae.weights, &pixels(&plain, making.device))
                .mean;
            let decoded = from_pixels(&vae.network.decode(&vae.weights, &mean))?;
            out.extend(chunk.iter().map(|(scene, _)| *scene).zip(decoded));
        }
        Ok(out)
    };
    let mut examples = drawn(pictures..pictures + calibration);
    let half = examples.len() / 2;
    let reconstructed = through_vae(&examples[..half])?;
    examples[..half].clone_from_slice(&reconstructed);
    let checker = Checker::calibrate(&examples)?;
    let score = |pictures: &[(Scene, Picture)]| {
        let verdicts: Vec<_> = pictures.iter().map(|(s, p)| checker.check(s, p)).collect();
        Score::new(&verdicts)
    };

    let real = drawn(0..pictures);
    let kept = through_vae(&real)?;
    let mut rows = vec![
        ("real".to_owned(), score(&real)),
        ("through the VAE".to_owned(), score(&kept)),
    ];
    let scenes: Vec<Scene> = real.iter().map(|(scene, _)| *scene).collect();
    for guidance in GUIDANCE {
        let painter = Painter {
            making,
            vocabulary,
            tokenizer,
            vae,
            denoiser,
        };
        let painted = painter.paint(&scenes, guidance)?;
        let painted: Vec<_> = scenes.iter().copied().zip(painted).collect();
        rows.push((
            format!("painted, {STEPS} steps, guidance {guidance}"),
            score(&painted),
        ));
        let grid = grid(&painted);
        let path = making.work.join(format!("painted-guidance-{guidance}.png"));
        grid.save(&path)?;
    }
    Ok(Report {
        psnr: psnr(&real, &kept),
        rows,
    })
}

/// Sixteen pictures a row.
fn grid(pictures: &[(Scene, Picture)]) -> image::RgbImage {
    const COLUMNS: usize = 16;
    const STEP: usize = crate::world::SIDE + 2;
    let rows = pictures.len().div_ceil(COLUMNS);
    let mut grid = image::RgbImage::new((COLUMNS * STEP) as u32, (rows * STEP) as u32);
    for (i, (_, picture)) in pictures.iter().enumerate() {
        let (x, y) = (i % COLUMNS * STEP, i / COLUMNS * STEP);
        image::imageops::replace(&mut grid, &picture.to_image(), x as i64, y as i64);
    }
    grid
}

fn psnr(real: &[(Scene, Picture)], kept: &[(Scene, Picture)]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for ((_, a), (_, b)) in real.iter().zip(kept) {
        for (x, y) in a.planes().zip(b.planes()) {
            sum += (f64::from(x) - f64::from(y)).powi(2);
            count += 1.0;
        }
    }
    10.0 * (255.0f64.powi(2) * count / f64::max(sum, 1.0)).log10()
}

struct Painter<'a, 'b> {
    making: &'a Making<'b>,
    vocabulary: &'a Vocabulary,
    tokenizer: &'a ClipTokenizer,
    vae: &'a Autoencoder,
    denoiser: &'a Denoiser,
}

impl Painter<'_, '_> {
    fn paint(&self, scenes: &[Scene], guidance: f64) -> Result<Vec<Picture>> {
        let recipe = self.making.recipe;
        let text_config = architecture::text_encoder(&recipe.text_encoder, self.vocabulary);
        let text = ClipTextModel::new(ClipTextConfig::from_json(&text_config)?)?;
        let unet = UNet2DConditionModel::new(UNetConfig::from_json(&architecture::unet(recipe))?)?;
        let sampler = DdimSampler::new(&SchedulerConfig::from_json(&architecture::scheduler())?, STEPS)?;
        let states = |texts: &[String], weights: &Weights| -> Result<Tensor> {
            let ids = self.tokenizer.encode(texts)?.to_device(self.making.device);
            Ok(text.forward(weights, &ids).last_hidden_state)
        };
        let mut pictures = Vec::new();
        for (chunk, scenes) in scenes.chunks(64).enumerate() {
            let captions: Vec<String> = scenes.iter().map(caption).collect();
            let conditions = Tensor::cat(
                &[
                    states(&captions, &self.denoiser.text_encoder)?,
                    states(&vec![String::new(); scenes.len()], &self.denoiser.text_encoder)?,
                ],
                0,
            );
            let mut z = self.start(scenes.len(), chunk as u64);
            for (index, &t) in sampler.timesteps().iter().enumerate() {
                let twice = Tensor::cat(&[&z, &z], 0);
                let timestep = Tensor::full([twice.size()[0]], t, (Kind::Int64, self.making.device));
                let input = UNetInput {
                    sample: &twice,
                    timestep: &timestep,
                    encoder_hidden_states: &conditions,
                    timestep_cond: None,
                    added: None,
                };
                let halves = unet.forward(&self.denoiser.unet, &input).chunk(2, 0);
                z = sampler.step(index, &guide(&halves[0], &halves[1], guidance), &z);
            }
            pictures.extend(from_pixels(&self.vae.network.decode(&self.vae.weights, &z))?);
        }
        Ok(pictures)
    }

    fn start(&self, pictures: usize, chunk: u64) -> Tensor {
        let side = architecture::latent_side(self.making.recipe);
        let shape = [pictures as i64, architecture::LATENT_CHANNELS, side, side];
        let mut noise = vec![0.0f32; shape.iter().product::<i64>() as usize];
        Stream::new(self.making.recipe.seed, Purpose::InitialLatents, chunk).fill_normal(&mut noise);
        Tensor::from_slice(&noise)
            .view(shape)
            .to_device(self.making.device)
    }
}
