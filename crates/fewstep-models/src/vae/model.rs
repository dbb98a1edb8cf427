//! The variational autoencoder of Stable Diffusion (Kingma and Welling, 2013; Rombach et al., 2021), between
//! pictures and latents.
//!
//! It knows nothing of noise schedules; the scaling factor is the caller's to apply.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::VaeConfig;
use super::decoder::Decoder;
use super::encoder::Encoder;
use crate::layers::Conv2d;
use crate::params::{Layout, Weights};
use crate::weights::{Component, Key, ModelError};

/// Diffusers' `AutoencoderKL`: pictures to the moments of latents, and latents to pictures.
#[derive(Debug)]
pub struct AutoencoderKl {
    config: VaeConfig,
    layout: Arc<Layout>,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
}

/// The normal distribution of a picture's latents, in the dtype of the weights.
#[derive(Debug)]
pub struct Moments {
    /// `[B, latent_channels, h, w]`.
    pub mean: Tensor,
    /// The logarithm of the variance, clamped to [-30, 20]; the mean's shape.
    pub logvar: Tensor,
}

impl Moments {
    /// Latents from unit normal `noise` of the mean's shape, in f32: `mean + exp(logvar / 2) noise`.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        let std = (self.logvar.to_kind(Kind::Float) * 0.5).exp();
        self.mean.to_kind(Kind::Float) + std * noise
    }
}

impl AutoencoderKl {
    /// The network that the configuration describes.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(config: VaeConfig) -> Result<Self, ModelError> {
        config.check()?;
        let ((encoder, decoder, quant_conv, post_quant_conv), layout) = Layout::build(|root| {
            let (moments, latents) = (2 * config.latent_channels, config.latent_channels);
            let conv = |name: &str, channels| Conv2d::same(&root.sub(name), channels, channels, 1);
            (
                Encoder::new(&root.sub("encoder"), &config),
                Decoder::new(&root.sub("decoder"), &config),
                config.use_quant_conv.then(|| conv("quant_conv", moments)),
                config
                    .use_post_quant_conv
                    .then(|| conv("post_quant_conv", latents)),
            )
        });
        Ok(AutoencoderKl {
            config,
            layout,
            encoder,
            decoder,
            quant_conv,
            post_quant_conv,
        })
    }

    /// The network and its weights from a folder, in `kind` on `device`.
    ///
    /// # Errors
    /// A configuration that is not supported, or files that do not hold its weights.
    pub fn load(component: &Component, kind: Kind, device: Device) -> Result<(Self, Weights), ModelError> {
        let config = component.parse(VaeConfig::from_json)?;
        let vae = AutoencoderKl::new(config)?;
        let weights = component.load_with(&vae.layout, kind, device, AutoencoderKl::key_map)?;
        Ok((vae, weights))
    }

    /// Its options.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Its parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What a stored tensor is to this network. Files from before diffusers 0.17 have other names for the
    /// attention's parts, and the oldest store its matrices as 1x1 convolutions.
    pub fn key_map(name: &str) -> Key {
        let Some((block, part)) = name.split_once(".mid_block.attentions.0.") else {
            return Key::Is(name.to_owned());
        };
        let (part, leaf) = part.rsplit_once('.').unwrap_or((part, ""));
        let part = match part {
            "query" => "to_q",
            "key" => "to_k",
            "value" => "to_v",
            "proj_attn" => "to_out.0",
            now => now,
        };
        let name = format!("{block}.mid_block.attentions.0.{part}.{leaf}");
        match leaf {
            "weight" => Key::Matrix(name),
            _ => Key::Is(name),
        }
    }

    /// The latents' distribution of pictures `[B, in_channels, H, W]` in [-1, 1].
    pub fn encode(&self, weights: &Weights, pixels: &Tensor) -> Moments {
        let moments = self.encoder.forward(weights, &pixels.to_kind(weights.kind()));
        let moments = match &self.quant_conv {
            Some(conv) => conv.forward(weights, &moments),
            None => moments,
        };
        let half = self.config.latent_channels;
        Moments {
            mean: moments.narrow(1, 0, half),
            logvar: moments.narrow(1, half, half).clamp(-30.0, 20.0),
        }
    }

    /// Pictures `[B, out_channels, H, W]` from latents `[B, latent_channels, h, w]` that were divided by the
    /// scaling factor. In [-1, 1] but for what the network overshoots.
    pub fn decode(&self, weights: &Weights, latents: &Tensor) -> Tensor {
        let latents = latents.to_kind(weights.kind());
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(weights, &conv.forward(weights, &latents)),
            None => self.decoder.forward(weights, &latents),
        }
    }

    /// Checks that pictures can be encoded.
    ///
    /// # Errors
    /// Another number of dimensions or channels than the network's, or nothing in them.
    pub fn check_pixels(&self, pixels: &Tensor) -> Result<(), ModelError> {
        check(
            "`pixels`",
            pixels,
            self.config.in_channels,
            self.config.downscale(),
        )
    }

    /// Checks that latents can be decoded.
    ///
    /// # Errors
    /// Another number of dimensions or channels than the network's, or nothing in them.
    pub fn check_latents(&self, latents: &Tensor) -> Result<(), ModelError> {
        check("`latents`", latents, self.config.latent_channels, 1)
    }
}

fn check(name: &str, tensor: &Tensor, channels: i64, smallest: i64) -> Result<(), ModelError> {
    let fits = match *tensor.size() {
        [batch, c, height, width] => batch > 0 && c == channels && height >= smallest && width >= smallest,
        _ => false,
    };
    match fits && tensor.is_floating_point() {
        true => Ok(()),
        false => Err(ModelError::input(
            format!("{name} of AutoencoderKL"),
            format!(
                "is {:?} of shape {:?}, but must be floating point [B, {channels}, H, W], H and W at least {smallest}",
                tensor.kind(),
                tensor.size()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_of_the_attention_are_mapped() {
        let part = |name: &str| format!("encoder.mid_block.attentions.0.{name}");
        for (old, new) in [
            ("query.weight", Key::Matrix(part("to_q.weight"))),
            ("key.bias", Key::Is(part("to_k.bias"))),
            ("value.weight", Key::Matrix(part("to_v.weight"))),
            ("proj_attn.weight", Key::Matrix(part("to_out.0.weight"))),
            ("to_out.0.bias", Key::Is(part("to_out.0.bias"))),
            ("group_norm.bias", Key::Is(part("group_norm.bias"))),
        ] {
            assert_eq!(AutoencoderKl::key_map(&part(old)), new);
        }
        // Elsewhere such a name is nothing old.
        assert_eq!(
            AutoencoderKl::key_map("decoder.query.weight"),
            Key::Is("decoder.query.weight".into())
        );
    }
}
