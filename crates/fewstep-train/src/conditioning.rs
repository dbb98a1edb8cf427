//! From pictures and captions to what a step is given: latents by the VAE, embeddings by the text encoders.
//! These networks are frozen; what they give is kept in f32.

use fewstep_draw::Purpose;
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{Conditions, EncodedPrompts, Family, TextEncoders};
use fewstep_models::vae::AutoencoderKl;
use fewstep_models::weights::{Component, Folder, ModelError};
use libtorch_ext::{NoGrad, catch};
use tch::{Device, Kind, Tensor};

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
        let empty = text_encoders.encode(&[""])?.to_kind(Kind::Float);
        Ok(Conditioner {
            vae: AutoencoderKl::load(&vae_component(teacher, config)?, vae_kind, device)?,
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
        let kept: Vec<&str> = captions
            .iter()
            .zip(samples)
            .map(|(caption, &sample)| match draws.drops_caption(sample) {
                true => "",
                false => caption.as_str(),
            })
            .collect();
        let cond = self.text_encoders.encode(&kept)?.to_kind(Kind::Float);
        // The same tensors, not copies.
        let uncond = self.no_prompt.to_kind(Kind::Float);
        Ok((cond.with_sizes(time_ids), uncond.with_sizes(time_ids)))
    }

    /// Samples of the pictures' latents, times the VAE's scaling factor: pixels `[B, 3, R, R]` in [-1, 1] to
    /// `[B, C, h, w]` f32. The noise is the samples' own.
    ///
    /// # Errors
    /// Pictures that the VAE cannot take, or what LibTorch refuses.
    pub fn latents(&self, pixels: &Tensor, samples: &[u64], draws: &Draws) -> Result<Tensor, TrainError> {
        let (vae, weights) = &self.vae;
        vae.check_pixels(pixels)?;
        let mut latents = Vec::new();
        for (pixels, samples) in pixels
            .split(self.vae_batch, 0)
            .iter()
            .zip(samples.chunks(self.vae_batch as usize))
        {
            let moments = catch(|| {
                let _no_grad = NoGrad::new();
                vae.encode(weights, &pixels.to_device(self.device))
            })?;
            let shape = &moments.mean.size()[1..];
            let noise = draws.normal(Purpose::VaeNoise, samples, shape, self.device)?;
            latents.push(catch(|| moments.sample(&noise) * vae.config().scaling_factor)?);
        }
        Ok(catch(|| Tensor::cat(&latents, 0))?)
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
            conditioner.latents(&pixels, &[7, 8, 9], &draws).unwrap()
        };
        let (one, all) = (latents("1"), latents("32"));
        assert_eq!(all.size(), [3, 4, 8, 8]);
        assert!(one.allclose(&all, 1e-5, 1e-5, false));
        // The sample is drawn: it is not the mean.
        assert!(all.std(true).double_value(&[]) > 1e-3);
    }
}
