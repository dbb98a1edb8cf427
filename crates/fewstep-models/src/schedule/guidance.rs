//! Guidance: how far a conditional prediction is pushed away from the unconditional one, and how a distilled
//! student is told.
//!
//! Two scales are in use. Samplers speak of `guidance_scale` g with u + g (c - u); the LCM paper of w with
//! c + w (c - u). They mean the same at w = g - 1.

use tch::{Kind, Tensor};

use super::prediction::float;

/// c + w (c - u) in f32 (equation 12 of the LCM paper); `w` is f32 and broadcasts, like `[B, 1, 1, 1]`.
pub fn extrapolate(cond: &Tensor, uncond: &Tensor, w: &Tensor) -> Tensor {
    let cond = float(cond);
    let difference = &cond - float(uncond);
    cond + w * difference
}

/// u + g (c - u) in f32: classifier-free guidance as samplers have it.
pub fn guide(cond: &Tensor, uncond: &Tensor, guidance_scale: f64) -> Tensor {
    let uncond = float(uncond);
    let difference = float(cond) - &uncond;
    uncond + difference * guidance_scale
}

/// The embedding `[B, dim]` f32 of guidance scales `w` `[B]` that a student gets as `timestep_cond`:
/// sin(1000 w f_j) then cos(1000 w f_j) with f_j = 10000^(-j / (dim/2 - 1)), and a zero where `dim` is odd.
///
/// The operations and their order are those with which published models were trained, in f32: at an argument
/// of 15000 the rounding of f_j alone moves a sine by 1e-3, so another order would be another embedding.
pub fn guidance_embedding(w: &Tensor, dim: i64) -> Tensor {
    let half = dim / 2;
    let options = (Kind::Float, w.device());
    // With a single frequency there is no spacing to divide by, and that frequency is 1.
    let spacing = Tensor::from(10000f32).log() / ((half - 1).max(1) as f64);
    // The scalar stays on the host: operands without dimensions may, and copying it would wait for the device.
    let frequencies = (Tensor::arange(half, options) * -spacing).exp();
    let scaled = float(w) * 1000.0;
    let arguments = scaled.unsqueeze(1) * frequencies.unsqueeze(0);
    let embedding = Tensor::cat(&[arguments.sin(), arguments.cos()], 1);
    match dim % 2 {
        0 => embedding,
        _ => embedding.constant_pad_nd([0, 1]),
    }
}
