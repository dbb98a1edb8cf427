//! From pictures and captions to what a step is given: latents by the VAE, embeddings by the text encoders.
//! These networks are frozen; what they give is kept in f32.

use fewstep_data::LatentsOf;
use fewstep_data::cache::Key;
use fewstep_draw::Purpose;
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{Conditions, EncodedPrompts, Family, Prompts, Rgb8, TextEncoders};
use fewstep_models::vae::{AutoencoderKl, Moments};
use fewstep_models::weights::{Component, Folder, ModelError};
use libtorch_ext::{NoGrad, catch, span};
use tch::{Device, Kind, Tensor};

use crate::cache::Cache;
use crate::config::Config;
use crate::draw::Draws;
use crate::error::TrainError;

/// The frozen networks before the UNet.
#[derive(Debug)]
pub struct Conditioner {
    text_encoders: TextEncoders,
    vae: (AutoencoderKl, Weights),
    vae_batch: i64,
    device: Device,
    no_prompt: EncodedPrompts,
    cache: Option<Cache>,
}

/// The VAE while pictures are painted.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    vae: &'a AutoencoderKl,
    weights: Weights,
}

impl Decoder<'_> {
    /// The pictures of latents `[B, C, h, w]`, one at a time.
    ///
    /// # Errors
    /// Latents of another shape than the VAE's, or what LibTorch refuses.
    pub(crate) fn pictures(&self, latents: &Tensor) -> Result<Vec<Rgb8>, TrainError> {
        self.vae.check_latents(latents)?;
        let mut pictures = Vec::new();
        for latents in catch(|| latents.split(1, 0))? {
            let pixels = catch(|| {
                let _no_grad = NoGrad::new();
                let latents = latents.to_kind(Kind::Float) / self.vae.config().scaling_factor;
                self.vae.decode(&self.weights, &latents)
            })?;
            pictures.extend(Rgb8::from_pixels(&pixels)?);
        }
        Ok(pictures)
    }
}

impl Conditioner {
    /// Loads the teacher's text encoders in `kind` and its VAE (or the one that the options name), and encodes
    /// once what the unconditional branch is told: the empty prompt, or SDXL's zeros.
    ///
    /// # Errors
    /// A folder, file or configuration that is wrong, or not enough memory.
    pub fn load(teacher: &Folder, config: &Config, kind: Kind, device: Device) -> Result<Self, TrainError> {
        let text_encoders = TextEncoders::load(teacher, kind, device)?;
        let vae_kind = vae_kind(config, text_encoders.family());
        let vae = AutoencoderKl::load(&vae_component(teacher, config)?, vae_kind, device)?;
        let cache = Cache::open(config, &text_encoders, (&vae.0, &vae.1), device)?;
        let empty = match &cache {
            None => text_encoders.encode(&[""])?,
            Some(cache) => cache.prompts(&text_encoders, &[""])?,
        };
        let empty = empty.to_kind(Kind::Float);
        Ok(Conditioner {
            vae,
            cache,
            vae_batch: i64::from(config.distillation.vae_encode_batch_size),
            device,
            no_prompt: match text_encoders.family() {
                Family::Sd => empty,
                Family::Sdxl => empty.zeros(),
            },
            text_encoders,
        })
    }

    /// What the UNet is told of the captions, and what without them, f32; captions that are drawn to be
    /// dropped are the empty prompt's. `time_ids` are the pictures' sizes, `[B, 6]`, which SDXL is told.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn conditions(
        &self,
        captions: &[String],
        time_ids: &Tensor,
        samples: &[u64],
        draws: &Draws,
    ) -> Result<(Conditions, Conditions), TrainError> {
        let _span = span(c"captions");
        let kept: Vec<&str> = captions
            .iter()
            .zip(samples)
            .map(|(caption, &sample)| match draws.drops_caption(sample) {
                true => "",
                false => caption.as_str(),
            })
            .collect();
        let cond = match &self.cache {
            None => self.text_encoders.encode(&kept)?,
            Some(cache) => cache.prompts(&self.text_encoders, &kept)?,
        };
        let cond = cond.to_kind(Kind::Float);
        // The same tensors, not copies.
        let uncond = self.no_prompt.to_kind(Kind::Float);
        Ok((cond.with_sizes(time_ids), uncond.with_sizes(time_ids)))
    }

    /// Samples of the pictures' latents, times the VAE's scaling factor: pixels `[N, 3, R, R]` in [-1, 1], of those of
    /// the B samples whose latents are not `known`, to `[B, C, h, w]` f32. The noise is the samples' own. With a cache
    /// each picture is encoded by itself, and kept.
    ///
    /// # Errors
    /// Pictures that the VAE cannot take, or what LibTorch refuses.
    pub fn latents(
        &self,
        pixels: &Tensor,
        known: &[LatentsOf],
        samples: &[u64],
        draws: &Draws,
    ) -> Result<Tensor, TrainError> {
        let _span = span(c"latents");
        let Some(cache) = &self.cache else {
            return self.all_latents(pixels, samples, draws);
        };
        let mut latents = Vec::new();
        let mut row = 0;
        for (known, sample) in known.iter().zip(samples) {
            let moments = match known {
                LatentsOf::Known(blob) => cache.moments(blob)?,
                LatentsOf::Pixels(key) => {
                    let picture = catch(|| pixels.narrow(0, row, 1))?;
                    row += 1;
                    self.made(&picture, *key)?
                }
            };
            latents.push(self.sampled(&moments, &[*sample], draws)?);
        }
        Ok(catch(|| Tensor::cat(&latents, 0))?)
    }

    /// The same where nothing is known, several pictures at once.
    fn all_latents(&self, pixels: &Tensor, samples: &[u64], draws: &Draws) -> Result<Tensor, TrainError> {
        let mut latents = Vec::new();
        for (pixels, samples) in pixels
            .split(self.vae_batch, 0)
            .iter()
            .zip(samples.chunks(self.vae_batch as usize))
        {
            latents.push(self.sampled(&self.encoded(pixels)?, samples, draws)?);
        }
        Ok(catch(|| Tensor::cat(&latents, 0))?)
    }

    /// The distribution of one picture's latents, which the cache keeps under `key`. `[1, 3, R, R]`.
    fn made(&self, picture: &Tensor, key: Option<Key>) -> Result<Moments, TrainError> {
        let moments = self.encoded(picture)?;
        if let (Some(cache), Some(key)) = (&self.cache, key) {
            cache.keep_moments(key, &moments)?;
        }
        Ok(moments)
    }

    fn encoded(&self, pixels: &Tensor) -> Result<Moments, TrainError> {
        let (vae, weights) = &self.vae;
        vae.check_pixels(pixels)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            vae.encode(weights, &pixels.to_device(self.device))
        })?)
    }

    fn sampled(&self, moments: &Moments, samples: &[u64], draws: &Draws) -> Result<Tensor, TrainError> {
        let shape = &moments.mean.size()[1..];
        let noise = draws.normal(Purpose::VaeNoise, samples, shape, self.device)?;
        Ok(catch(|| {
            moments.sample(&noise) * self.vae.0.config().scaling_factor
        })?)
    }

    /// What the UNet is told of prompts that are no training data's, for square pictures of so many pixels; without a
    /// prompt it is told what the teacher is in training.
    ///
    /// # Errors
    /// No prompts, or what LibTorch refuses.
    pub(crate) fn prompts(&self, prompts: &[String], resolution: u32) -> Result<Prompts, TrainError> {
        // One at a time: they take no more memory than captions do.
        let each = prompts.iter().map(|prompt| self.text_encoders.encode(&[prompt]));
        let each = each.collect::<Result<Vec<_>, _>>()?;
        let side = resolution as f32;
        Ok(catch(|| {
            let time_ids = Tensor::from_slice(&[side, side, 0.0, 0.0, side, side]).view([1, 6]);
            let time_ids = time_ids.to_device(self.device);
            let told = |encoded: EncodedPrompts| encoded.to_kind(Kind::Float).with_sizes(&time_ids);
            Prompts {
                cond: told(EncodedPrompts::cat(&each)),
                uncond: Some(told(self.no_prompt.to_kind(Kind::Float))),
            }
        })?)
    }

    /// The VAE, to decode with: in f32, for 16 bits are too few for a picture's 256 levels.
    ///
    /// # Errors
    /// Not enough memory.
    pub(crate) fn decoder(&self) -> Result<Decoder<'_>, TrainError> {
        let (vae, weights) = &self.vae;
        let weights = catch(|| weights.map(|tensor| tensor.to_kind(Kind::Float)))?;
        Ok(Decoder { vae, weights })
    }

    /// The VAE itself.
    pub(crate) fn vae(&self) -> &AutoencoderKl {
        &self.vae.0
    }

    /// The cache, if there is one.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Makes and keeps the latents of a picture, `[1, 3, R, R]`.
    ///
    /// # Errors
    /// As [`Conditioner::latents`].
    pub(crate) fn fill_picture(&self, picture: &Tensor, key: Key) -> Result<(), TrainError> {
        self.made(picture, Some(key)).map(|_| ())
    }

    /// Makes and keeps a caption's embeddings; whether there was anything to make.
    ///
    /// # Errors
    /// As [`Conditioner::conditions`].
    pub(crate) fn fill_caption(&self, caption: &str) -> Result<bool, TrainError> {
        match &self.cache {
            Some(cache) => cache.fill_prompt(&self.text_encoders, caption),
            None => Ok(false),
        }
    }

    /// Bytes of one picture's latents and of one caption's embeddings, as they are kept: pictures of `resolution`
    /// pixels a side.
    pub(crate) fn entry_bytes(&self, resolution: u32) -> (u64, u64) {
        let (vae, weights) = &self.vae;
        let side = i64::from(resolution) / vae.config().downscale();
        let numbers = 2 * vae.config().latent_channels * side * side;
        let latents = numbers as u64 * weights.kind().elt_size_in_bytes() as u64;
        let kind = self
            .text_encoders
            .networks()
            .next()
            .map(|(_, weights)| weights.kind());
        let each = kind.map_or(4, |kind| kind.elt_size_in_bytes()) as u64;
        let EncodedPrompts {
            prompt_embeds,
            text_embeds,
        } = &self.no_prompt;
        let numbers = prompt_embeds.numel() + text_embeds.as_ref().map_or(0, Tensor::numel);
        (latents, numbers as u64 * each)
    }
}

/// What the VAE computes in: f32 for SDXL's, whose activations overflow fp16, and what the other networks
/// compute in for SD's, unless the options say.
pub(crate) fn vae_kind(config: &Config, family: Family) -> Kind {
    match (config.model.vae_precision, family) {
        (Some(precision), _) => precision.kind(),
        (None, Family::Sd) => config.run.mixed_precision.kind(),
        (None, Family::Sdxl) => Kind::Float,
    }
}

/// The VAE's folder: the teacher's, or the one that the options name.
pub(crate) fn vae_component(teacher: &Folder, config: &Config) -> Result<Component, ModelError> {
    let other = config.model.pretrained_vae_model_name_or_path.as_deref();
    teacher.component_or("vae", other)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn conditioner(flags: &[(&str, &str)]) -> (Conditioner, Draws) {
        tch::set_num_threads(1);
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/tiny-sd");
        let mut config = Config::default();
        for (name, word) in flags {
            config.set(name, &[(*word).to_owned()]).unwrap();
        }
        let folder = Folder::open(Path::new(model)).unwrap();
        let conditioner = Conditioner::load(&folder, &config, Kind::Float, Device::Cpu).unwrap();
        (conditioner, Draws::new(&config))
    }

    #[test]
    fn dropped_captions_are_the_empty_prompt() {
        let captions = ["a red circle", "two cats"].map(str::to_owned);
        let time_ids = Tensor::zeros([2, 6], (Kind::Float, Device::Cpu));
        let prompts = |share| {
            let (conditioner, draws) = conditioner(&[("proportion_empty_prompts", share)]);
            let (cond, uncond) = conditioner
                .conditions(&captions, &time_ids, &[0, 1], &draws)
                .unwrap();
            (cond.prompt_embeds, uncond.prompt_embeds)
        };
        let (dropped, empty) = prompts("1");
        assert!(dropped.allclose(&empty.expand_as(&dropped), 1e-6, 1e-6, false));
        let (kept, empty) = prompts("0");
        assert!(!kept.get(0).allclose(&empty.get(0), 1e-3, 1e-3, false));
    }

    #[test]
    fn latents_do_not_depend_on_how_many_are_encoded_at_once() {
        let pixels = Tensor::arange(3 * 3 * 32 * 32, (Kind::Float, Device::Cpu));
        let pixels = (pixels * 0.01).sin().view([3, 3, 32, 32]);
        let latents = |chunk| {
            let (conditioner, draws) = conditioner(&[("vae_encode_batch_size", chunk)]);
            conditioner.latents(&pixels, &[], &[7, 8, 9], &draws).unwrap()
        };
        let (one, all) = (latents("1"), latents("32"));
        assert_eq!(all.size(), [3, 4, 8, 8]);
        assert!(one.allclose(&all, 1e-5, 1e-5, false));
        // The sample is drawn: it is not the mean.
        assert!(all.std(true).double_value(&[]) > 1e-3);
    }
}
