//! A whole model, loaded.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::lora::{self, LoraUse, Merge};
use super::{
    DdimOptions, Decoder, Denoiser, EncodedPrompts, Family, LcmOptions, Prompts, StepDone, TextEncoders,
};
use crate::lora::Part;
use crate::params::Weights;
use crate::schedule::SchedulerConfig;
use crate::unet::{UNet2DConditionModel, UNetConfig};
use crate::weights::{Component, Folder, ModelError};

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Where it computes.
    pub device: Device,
    /// What UNet and text encoder compute in.
    pub dtype: Kind,
    /// A UNet's folder to use in place of the model's: a student. If a `scheduler` folder lies beside it, as
    /// it does in a run's folder, that one is used too: it knows how the student was distilled.
    pub unet: Option<PathBuf>,
    /// A VAE's folder, or a model's with `vae` inside, to use in place of the model's.
    pub vae: Option<PathBuf>,
    /// Adapters on the UNet and the text encoders. A `scheduler` folder beside the first file counts as the
    /// one beside a student.
    pub loras: Vec<LoraUse>,
    /// How they come there.
    pub merge: Merge,
}

impl PipelineOptions {
    /// The model as it is.
    pub fn new(device: Device, dtype: Kind) -> Self {
        PipelineOptions {
            device,
            dtype,
            unet: None,
            vae: None,
            loras: Vec::new(),
            merge: Merge::default(),
        }
    }
}

/// The components of an SD 1.x, SD 2.x or SDXL model.
#[derive(Debug)]
pub struct Pipeline {
    text_encoders: TextEncoders,
    /// Whether the model takes zeros for no negative prompt (SDXL), or the embedding of the empty one.
    zeros_for_empty_prompt: bool,
    unet: UNet2DConditionModel,
    weights: Weights,
    scheduler: SchedulerConfig,
    decoder: Decoder,
}

impl Pipeline {
    /// Loads all components of a model in diffusers' layout.
    ///
    /// # Errors
    /// A component that is missing, not supported, or does not fit the others.
    pub fn load(folder: &Folder, options: &PipelineOptions) -> Result<Self, ModelError> {
        let PipelineOptions { device, dtype, .. } = *options;
        let (unet, weights, scheduler) = load_unet(folder, options)?;
        let vae = folder.component_or("vae", options.vae.as_deref())?;
        let decoder = Decoder::load(&vae, device)?;
        let (taken, given) = (unet.config().in_channels, unet.config().out_channels);
        let latents = decoder.vae().config().latent_channels;
        if given != latents || ![latents, 2 * latents + 1].contains(&taken) {
            return Err(ModelError::malformed(
                vae.path(),
                format_args!(
                    "has latents of {latents} channels, but the UNet goes from {taken} channels to {given}: they do \
                     not belong together, or it is a depth or upscaling model, which are not supported"
                ),
            ));
        }
        Ok(Pipeline {
            text_encoders: TextEncoders::load_with(folder, dtype, device, &options.loras, options.merge)?,
            zeros_for_empty_prompt: zeros_for_empty_prompt(folder)?,
            unet,
            weights,
            scheduler,
            decoder,
        })
    }

    /// What sampling needs of it.
    pub fn denoiser(&self) -> Denoiser<'_> {
        Denoiser {
            unet: &self.unet,
            weights: &self.weights,
            scheduler: &self.scheduler,
            inpainting: None,
        }
    }

    /// The shape `[C, h, w]` of the latents of a picture of `height` by `width` pixels, by default the size
    /// that the UNet was made for.
    ///
    /// # Errors
    /// A size that the VAE's downscaling does not divide, or none given and none in the UNet's configuration.
    pub fn latent_shape(&self, height: Option<i64>, width: Option<i64>) -> Result<[i64; 3], ModelError> {
        let [h, w] = [(height, 0, "height"), (width, 1, "width")]
            .map(|(pixels, axis, name)| self.latent_side(pixels, axis, name));
        Ok([self.unet.config().out_channels, h?, w?])
    }

    fn latent_side(&self, pixels: Option<i64>, axis: usize, name: &str) -> Result<i64, ModelError> {
        let downscale = self.decoder.vae().config().downscale();
        match (pixels, self.unet.config().sample_size) {
            (Some(pixels), _) if pixels > 0 && pixels % downscale == 0 => Ok(pixels / downscale),
            (Some(pixels), _) => Err(ModelError::input(
                format_args!("the {name} of the picture"),
                format_args!("is {pixels}, but must be a multiple of {downscale}, the VAE's downscaling"),
            )),
            (None, Some(size)) => Ok(size[axis]),
            (None, None) => Err(ModelError::input(
                format_args!("the {name} of the picture"),
                "must be given, since the UNet's configuration has no `sample_size`",
            )),
        }
    }

    /// What the UNet is told of prompts and of one negative prompt for all of them, for pictures of
    /// `latent_shape` (`[C, h, w]`). SDXL hears the picture's size as the original and the target one,
    /// without a crop; where there is no negative prompt it gets zeros, if its model_index.json says so.
    ///
    /// # Errors
    /// No prompts, or token ids that an encoder does not know.
    pub fn prompts<S: AsRef<str>>(
        &self,
        prompts: &[S],
        negative_prompt: Option<&str>,
        latent_shape: &[i64; 3],
    ) -> Result<Prompts, ModelError> {
        let cond = self.text_encoders.encode(prompts)?;
        let uncond = match negative_prompt {
            None if self.zeros_for_empty_prompt => cond.zeros(),
            negative => self.text_encoders.encode(&[negative.unwrap_or_default()])?,
        };
        let downscale = self.decoder.vae().config().downscale();
        let [height, width] = [latent_shape[1], latent_shape[2]].map(|side| (side * downscale) as f32);
        let time_ids = Tensor::f_from_slice(&[height, width, 0.0, 0.0, height, width])?.f_view([1, 6])?;
        let time_ids = time_ids.f_to_device(self.weights.device())?;
        let told = |encoded: EncodedPrompts| encoded.with_sizes(&time_ids);
        Ok(Prompts {
            cond: told(cond),
            uncond: Some(told(uncond)),
        })
    }

    /// Multistep consistency sampling; see [`Denoiser::lcm`].
    ///
    /// # Errors
    /// Timesteps that cannot be, inputs that do not fit the UNet, or what LibTorch refuses.
    pub fn lcm(
        &self,
        prompts: &Prompts,
        options: &LcmOptions,
        latents: &Tensor,
        noise: impl FnMut(usize, &[i64]) -> Tensor,
        progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        self.denoiser().lcm(prompts, options, latents, noise, progress)
    }

    /// DDIM with classifier-free guidance; see [`Denoiser::ddim`].
    ///
    /// # Errors
    /// A number of steps that cannot be, inputs that do not fit the UNet, or what LibTorch refuses.
    pub fn ddim(
        &self,
        prompts: &Prompts,
        options: &DdimOptions,
        latents: &Tensor,
        progress: impl FnMut(StepDone<'_>),
    ) -> Result<Tensor, ModelError> {
        self.denoiser().ddim(prompts, options, latents, progress)
    }

    /// Whether the UNet was made for inpainting, and paints nothing without a picture and a mask.
    pub fn is_for_inpainting(&self) -> bool {
        self.denoiser().is_for_inpainting()
    }

    /// Latents of pictures; see [`Decoder::encode`].
    ///
    /// # Errors
    /// Pictures whose sides the VAE's downscaling does not divide, or what LibTorch refuses.
    pub fn encode(
        &self,
        pixels: &Tensor,
        noise: impl FnOnce(&[i64]) -> Tensor,
    ) -> Result<Tensor, ModelError> {
        self.decoder.encode(pixels, noise)
    }

    /// The pixels that a latent is wide and high.
    pub fn downscale(&self) -> i64 {
        self.decoder.vae().config().downscale()
    }

    /// Pictures `[B, 3, H, W]` in [-1, 1]; see [`Decoder::decode`].
    ///
    /// # Errors
    /// Latents of another shape than the VAE's, or what LibTorch refuses.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, ModelError> {
        self.decoder.decode(latents)
    }
}

/// What model_index.json says of the empty negative prompt; diffusers' default is zeros.
fn zeros_for_empty_prompt(folder: &Folder) -> Result<bool, ModelError> {
    if Family::of(folder) == Family::Sd {
        return Ok(false);
    }
    let index = folder.index()?;
    Ok(index["force_zeros_for_empty_prompt"].as_bool().unwrap_or(true))
}

/// The UNet that the options ask for, its weights, and the noise schedule that goes with it.
///
/// # Errors
/// A folder that is missing, a configuration that is not supported, or files that do not hold the weights.
pub fn load_unet(
    folder: &Folder,
    options: &PipelineOptions,
) -> Result<(UNet2DConditionModel, Weights, SchedulerConfig), ModelError> {
    let component = match &options.unet {
        Some(path) => Component::open(path)?,
        None => folder.component("unet")?,
    };
    let unet = UNet2DConditionModel::new(component.parse(UNetConfig::from_json)?)?;
    let weights = component.load(unet.layout(), options.dtype, options.device)?;
    let weights = lora::with_loras(weights, Part::UNet, &options.loras, options.merge)?;
    let student = options
        .unet
        .as_deref()
        .or_else(|| options.loras.first().map(|lora| lora.file.path.as_path()));
    let beside = student.and_then(Path::parent).map(|run| run.join("scheduler"));
    let scheduler = match beside {
        Some(beside) if beside.is_dir() => beside,
        _ => folder.part("scheduler")?,
    };
    Ok((unet, weights, SchedulerConfig::load(&scheduler)?))
}
