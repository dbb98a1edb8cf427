//! The picture that `fewstep generate` paints over, and the part of it that is painted.

use std::path::{Path, PathBuf};

use anyhow::Context;
use fewstep_data::picture::{PictureResizer, Rgb, decode};
use fewstep_data::{Interpolation, Limits};
use fewstep_draw::{Purpose, Stream};
use fewstep_models::pipeline::{Pipeline, Rgb8};
use tch::{Kind, Tensor};

use crate::failure::Usage;

/// The flags of painting over a picture.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct CanvasFlags {
    /// A picture (JPEG, PNG or WebP) to paint over
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Paint only where this picture is white. The rest of --image is kept as latents: decoded together with
    /// what is new, it may shift a little in colour
    #[arg(long, value_name = "FILE", requires = "image")]
    mask: Option<PathBuf>,
    /// How much of the picture is painted anew, above 0 and at most 1 [default: 0.8, or 1 with --mask]
    #[arg(long, value_name = "S", requires = "image")]
    strength: Option<f64>,
    /// What a strength below 1 does to the steps: lcm spreads all of them over the part of the schedule that is
    /// left, as diffusers' LCM pipelines; last takes the last of them, fewer, as its other pipelines [default:
    /// the sampler's own: lcm, or last with ddim]
    #[arg(long, value_enum, value_name = "WAY", requires = "image")]
    strength_steps: Option<StrengthSteps>,
}

/// Which steps are done at a strength below 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StrengthSteps {
    /// All, over a part of the schedule.
    Lcm,
    /// The last ones.
    Last,
}

/// A picture ready to be painted over, as latents.
#[derive(Debug)]
pub(super) struct Canvas {
    /// `[1, C, h, w]` f32.
    pub(super) picture: Tensor,
    /// What is painted, if not everything.
    pub(super) part: Option<Part>,
    /// Whether sampling starts at pure noise, without the picture in it.
    pub(super) from_pure_noise: bool,
}

/// The part of a picture that is painted.
#[derive(Debug)]
pub(super) struct Part {
    /// 1 where it is painted: `[1, 1, h, w]` f32.
    pub(super) mask: Tensor,
    /// The picture with grey there, `[1, C, h, w]` f32.
    pub(super) masked_picture: Tensor,
}

/// Pictures larger than this are not read.
const LARGEST: u64 = 1 << 28;
/// At least this bright counts as white.
const WHITE: f64 = 0.5;

impl CanvasFlags {
    /// The files' names, for the notes in a picture.
    pub(super) fn files(&self) -> (Option<&Path>, Option<&Path>) {
        (self.image.as_deref(), self.mask.as_deref())
    }

    /// How much of a picture is painted anew; `None` where there is none.
    pub(super) fn strength(&self) -> Option<f64> {
        self.image.as_ref()?;
        let usual = if self.mask.is_some() { 1.0 } else { 0.8 };
        Some(self.strength.unwrap_or(usual))
    }

    /// The share of the noise schedule that is used.
    pub(super) fn share(&self) -> f64 {
        self.strength().unwrap_or(1.0)
    }

    /// Which steps are done at a strength below 1, if that was asked for.
    pub(super) fn strength_steps(&self) -> Option<StrengthSteps> {
        self.strength_steps
    }

    /// Reads the picture and the mask in the size asked for, or else the picture's own in whole latents, and
    /// encodes them.
    ///
    /// # Errors
    /// Files that are no pictures, sizes that cannot be, and what LibTorch refuses.
    pub(super) fn load(
        &self,
        pipeline: &Pipeline,
        (height, width): (Option<u32>, Option<u32>),
        seed: u64,
    ) -> anyhow::Result<Option<Canvas>> {
        let Some(image) = &self.image else {
            if pipeline.is_for_inpainting() {
                return Err(Usage::error(
                    "this UNet was made for inpainting: give it --image and --mask",
                ));
            }
            return Ok(None);
        };
        if self.mask.is_none() && pipeline.is_for_inpainting() {
            return Err(Usage::error("this UNet was made for inpainting: give it --mask"));
        }
        let picture = read(image)?;
        let downscale = u32::try_from(pipeline.downscale())?;
        let own = |pixels: u32| (pixels / downscale).max(1) * downscale;
        let (height, width) = (
            height.unwrap_or(own(picture.height)),
            width.unwrap_or(own(picture.width)),
        );
        let [_, h, w] = pipeline.latent_shape(Some(height.into()), Some(width.into()))?;
        let pixels = sized(picture, height, width, Interpolation::Lanczos)?.to_pixels()?;
        let encode = |pixels: &Tensor| {
            pipeline.encode(pixels, |shape| {
                let mut numbers = vec![0.0; shape.iter().product::<i64>() as usize];
                Stream::new(seed, Purpose::VaeNoise, 0).fill_normal(&mut numbers);
                Tensor::from_slice(&numbers).view(shape)
            })
        };
        let part = match &self.mask {
            None => None,
            Some(mask) => {
                let mask = sized(read(mask)?, height, width, Interpolation::Lanczos)?.to_pixels()?;
                let white = (mask.f_mean_dim([1i64].as_slice(), true, Kind::Float)? * 0.5 + 0.5)
                    .f_ge(WHITE)?
                    .to_kind(Kind::Float);
                let masked_picture = encode(&(&pixels * (1.0 - &white)))?;
                let mask = white.f_upsample_nearest2d([h, w], None, None)?;
                Some(Part {
                    mask: mask.to_device(masked_picture.device()),
                    masked_picture,
                })
            }
        };
        Ok(Some(Canvas {
            picture: encode(&pixels)?,
            from_pure_noise: part.is_some() && self.share() >= 1.0,
            part,
        }))
    }
}

fn read(path: &Path) -> anyhow::Result<Rgb> {
    let bytes =
        std::fs::read(path).with_context(|| format!("the picture {} cannot be read", path.display()))?;
    let limits = Limits {
        max_pixels: LARGEST,
        ..Limits::default()
    };
    decode(&bytes, &limits).with_context(|| format!("{} is no picture that can be used", path.display()))
}

fn sized(picture: Rgb, height: u32, width: u32, filter: Interpolation) -> anyhow::Result<Rgb8> {
    let picture = PictureResizer::default().resize(picture, height, width, filter)?;
    Ok(Rgb8 {
        width: picture.width as usize,
        height: picture.height as usize,
        bytes: picture.pixels,
    })
}
