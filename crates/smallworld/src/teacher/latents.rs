//! The second stage: pictures to latents and captions to token ids, once for all of the UNet's training.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use fewstep_draw::{Purpose, Stream};
use fewstep_models::clip::ClipTokenizer;
use fewstep_models::weights::{read_tensors, write_tensors};
use libtorch_ext::NoGrad;
use tch::{Kind, Tensor};

use super::Making;
use super::autoencoder::Autoencoder;
use super::pictures::{batches, to_unit};
use crate::world::{Scene, caption};

/// What the UNet is trained on, on the device.
pub(super) struct Examples {
    /// `[N, 4, h, w]` f16: a sample of each picture's posterior, as a distillation sees them.
    pub(super) latents: Tensor,
    /// `[N, S]` i64.
    pub(super) token_ids: Tensor,
    /// `[1, S]` i64: the caption that says nothing.
    pub(super) empty_ids: Tensor,
}

const FILE: &str = "latents.safetensors";

impl Examples {
    /// Takes them from the work folder, or makes them.
    pub(super) fn make(
        making: &mut Making<'_>,
        vae: &Autoencoder,
        tokenizer: &ClipTokenizer,
    ) -> Result<Self> {
        let path = making.work.join(FILE);
        let latents = if path.exists() {
            let mut stored = read_tensors(&path)?;
            stored
                .remove("latents")
                .with_context(|| format!("{} lacks the tensor latents; remove it", path.display()))?
        } else {
            let latents = encode(making, vae)?;
            write_tensors(&path, [("latents", &latents)], &BTreeMap::new())?;
            latents
        };
        let captions: Vec<String> = (0..making.recipe.denoiser.pictures)
            .map(|number| caption(&Scene::draw(making.recipe.seed, number)))
            .collect();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        Ok(Examples {
            latents: latents.to_device(making.device),
            token_ids: tokenizer.encode(&captions)?.to_device(making.device),
            empty_ids: tokenizer.encode(&[""])?.to_device(making.device),
        })
    }
}

fn encode(making: &mut Making<'_>, vae: &Autoencoder) -> Result<Tensor> {
    let _guard = NoGrad::new();
    let (seed, pictures) = (making.recipe.seed, making.recipe.denoiser.pictures);
    making.say(format!("latents: encoding {pictures} pictures"));
    let started = std::time::Instant::now();
    let mut first = 0;
    let latents = batches(seed, 0..pictures, making.threads, making.device, |chunks| {
        chunks
            .map(|bytes| {
                let moments = vae.network.encode(&vae.weights, &to_unit(&bytes));
                let mut noise = vec![0.0f32; moments.mean.numel()];
                Stream::new(seed, Purpose::VaeNoise, first).fill_normal(&mut noise);
                first += bytes.size()[0] as u64;
                let noise = Tensor::from_slice(&noise)
                    .view_(moments.mean.size())
                    .to_device(making.device);
                moments.sample(&noise).to_kind(Kind::Half)
            })
            .collect::<Vec<_>>()
    });
    let latents = Tensor::cat(&latents, 0);
    making.say(format!(
        "latents: done in {:.0} s; standard deviation {:.3}",
        started.elapsed().as_secs_f64(),
        latents.to_kind(Kind::Float).std(true).double_value(&[])
    ));
    Ok(latents)
}
