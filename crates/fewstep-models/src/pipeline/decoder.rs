//! From latents to pictures of eight bits, and from pictures to latents.

use libtorch_ext::{NoGrad, catch};
use tch::{Device, Kind, Tensor};

use crate::params::Weights;
use crate::vae::AutoencoderKl;
use crate::weights::{Component, ModelError};

/// A VAE, always in f32: the steps between bf16 numbers near 1 are wider than those between the
/// 256 levels of a picture, and f16 overflows in some published VAEs.
#[derive(Debug)]
pub struct Decoder {
    vae: AutoencoderKl,
    weights: Weights,
}

/// A picture of three channels with eight bits each, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue of every pixel: `3 * width * height` bytes.
    pub bytes: Vec<u8>,
}

impl Decoder {
    /// Loads a VAE.
    ///
    /// # Errors
    /// A configuration that is not supported, or files that do not hold its weights.
    pub fn load(component: &Component, device: Device) -> Result<Self, ModelError> {
        let (vae, weights) = AutoencoderKl::load(component, Kind::Float, device)?;
        Ok(Decoder { vae, weights })
    }

    /// The network.
    pub fn vae(&self) -> &AutoencoderKl {
        &self.vae
    }

    /// Pictures `[B, 3, H, W]` in [-1, 1], f32, of latents `[B, C, h, w]` as a UNet has them.
    ///
    /// # Errors
    /// Latents of another shape than the VAE's, or what LibTorch refuses.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, ModelError> {
        self.vae.check_latents(latents)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            let latents = latents.to_device(self.weights.device()).to_kind(Kind::Float);
            let latents = latents / self.vae.config().scaling_factor;
            self.vae.decode(&self.weights, &latents).clamp(-1.0, 1.0)
        })?)
    }
}

impl Decoder {
    /// Latents `[B, C, h, w]` as a UNet has them, f32, of pictures `[B, 3, H, W]` in [-1, 1]: the posterior's
    /// sample that unit normal `noise` of the latents' shape picks.
    ///
    /// # Errors
    /// Pictures whose sides the VAE's downscaling does not divide, or what LibTorch refuses.
    pub fn encode(
        &self,
        pixels: &Tensor,
        noise: impl FnOnce(&[i64]) -> Tensor,
    ) -> Result<Tensor, ModelError> {
        self.vae.check_pixels(pixels)?;
        Ok(catch(|| {
            let _no_grad = NoGrad::new();
            let device = self.weights.device();
            let moments = self.vae.encode(&self.weights, &pixels.to_device(device));
            let noise = noise(&moments.mean.size()).to_device(device);
            moments.sample(&noise) * self.vae.config().scaling_factor
        })?)
    }
}

impl Rgb8 {
    /// The picture as pixels `[1, 3, H, W]` in [-1, 1], on the CPU.
    ///
    /// # Errors
    /// Bytes that are not as many as the sizes say.
    pub fn to_pixels(&self) -> Result<Tensor, ModelError> {
        let levels = Tensor::f_from_slice(&self.bytes)?;
        let levels = levels.f_view([1, self.height as i64, self.width as i64, 3])?;
        Ok(catch(|| {
            (levels.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 127.5 - 1.0).contiguous()
        })?)
    }

    /// The pictures of pixels `[B, 3, H, W]` in [-1, 1], rounded to the nearest level.
    ///
    /// # Errors
    /// Another shape, or what LibTorch refuses.
    pub fn from_pixels(pixels: &Tensor) -> Result<Vec<Rgb8>, ModelError> {
        let &[batch, 3, height, width] = pixels.size().as_slice() else {
            return Err(ModelError::input(
                "the tensor of pixels",
                format_args!("has the shape {:?}, wanted [B, 3, H, W]", pixels.size()),
            ));
        };
        let levels = catch(|| {
            let unit = (pixels.to_kind(Kind::Float) * 0.5 + 0.5).clamp(0.0, 1.0);
            let levels = (unit * 255.0).round().to_kind(Kind::Uint8);
            levels.permute([0, 2, 3, 1]).to_device(Device::Cpu).contiguous()
        })?;
        let size = (3 * height * width) as usize;
        let mut bytes = vec![0u8; batch as usize * size];
        let total = bytes.len();
        levels.f_copy_data_u8(&mut bytes, total)?;
        let picture = |bytes: &[u8]| Rgb8 {
            width: width as usize,
            height: height as usize,
            bytes: bytes.to_vec(),
        };
        Ok(bytes.chunks(size.max(1)).map(picture).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_rounded_and_channels_interleaved() {
        // Two pixels in a row: red -1 and 1, green 0 and 0.004, blue beyond the range.
        let pixels = Tensor::from_slice(&[-1.0f32, 1.0, 0.0, 0.004, -3.0, 3.0]).view([1, 3, 1, 2]);
        let pictures = Rgb8::from_pixels(&pixels).unwrap();
        assert_eq!(pictures.len(), 1);
        assert_eq!((pictures[0].width, pictures[0].height), (2, 1));
        assert_eq!(pictures[0].bytes, [0, 128, 0, 255, 128, 255]);
        assert!(Rgb8::from_pixels(&pixels.view([1, 6, 1, 1])).is_err());
    }
}
