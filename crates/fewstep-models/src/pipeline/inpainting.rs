//! Painting a part of a picture anew. A UNet made for it sees the rest of the picture in five more channels; any
//! other has the rest put back after every step.

use tch::Tensor;

/// A picture of which a part is painted anew, as latents; f32 on the UNet's device.
#[derive(Debug)]
pub struct Inpainting {
    /// 1 where the picture is painted and 0 where it stays: `[1, 1, h, w]`.
    pub mask: Tensor,
    /// The picture, `[1, C, h, w]`.
    pub picture: Tensor,
    /// The picture with grey in place of what is painted, `[1, C, h, w]`.
    pub masked_picture: Tensor,
    /// The noise in which the rest of the picture lies between the steps, `[B, C, h, w]`.
    pub noise: Tensor,
}

impl Inpainting {
    /// What a UNet made for inpainting is given for latents `sample` `[B, C, h, w]`: the mask and the masked
    /// picture below them, `[B, 2 C + 1, h, w]`.
    pub(super) fn beside(&self, sample: &Tensor) -> Tensor {
        let size = sample.size();
        let for_all = |t: &Tensor| t.expand([size[0], -1, -1, -1], false);
        Tensor::cat(&[sample, &for_all(&self.mask), &for_all(&self.masked_picture)], 1)
    }

    /// The latents `z` where the mask is 1, and `rest`, the picture at the same noise level, elsewhere.
    pub(super) fn keep_rest(&self, z: &Tensor, rest: &Tensor) -> Tensor {
        rest + &self.mask * (z - rest)
    }
}
