//! Batches of drawn pictures as tensors on a device, drawn ahead on other threads.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::ahead::ahead;
use crate::world::{Picture, SIDE, Scene, render};

/// Pictures that travel to the device together: each journey waits for what the device does.
const TOGETHER: u64 = 128;

/// Runs `body` with an iterator over the pictures of these numbers in the world of this seed, as batches of
/// at most 128, bytes `[B, 3, 64, 64]` on the device.
pub(super) fn batches<R>(
    seed: u64,
    numbers: Range<u64>,
    threads: usize,
    device: Device,
    body: impl FnOnce(&mut dyn Iterator<Item = Tensor>) -> R,
) -> R {
    let last = numbers.end;
    let count = (numbers.end - numbers.start).div_ceil(TOGETHER);
    let draw = |batch: u64| {
        let from = numbers.start + batch * TOGETHER;
        drawn_bytes(seed, from..last.min(from + TOGETHER))
    };
    ahead(0..count, threads, draw, |bytes| {
        body(&mut bytes.map(|bytes| byte_batch(&bytes).to_device(device)))
    })
}

/// The pictures of these numbers as planes of bytes, one after another.
pub(super) fn drawn_bytes(seed: u64, numbers: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((numbers.end - numbers.start) as usize * 3 * SIDE * SIDE);
    for number in numbers {
        bytes.extend(render(&Scene::draw(seed, number)).planes());
    }
    bytes
}

/// Planes of bytes as a tensor `[B, 3, 64, 64]`.
pub(super) fn byte_batch(bytes: &[u8]) -> Tensor {
    Tensor::from_slice(bytes).view([-1, 3, SIDE as i64, SIDE as i64])
}

/// Bytes as a VAE takes them: f32 in [-1, 1].
pub(super) fn to_unit(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

/// These pictures as a VAE takes them, `[B, 3, 64, 64]` f32 in [-1, 1].
pub fn pixels(pictures: &[Picture], device: Device) -> Tensor {
    let bytes: Vec<u8> = pictures.iter().flat_map(Picture::planes).collect();
    to_unit(&byte_batch(&bytes).to_device(device))
}

/// The pictures that a VAE decoded, `[B, 3, 64, 64]`.
///
/// # Errors
/// Another shape.
pub fn from_pixels(pixels: &Tensor) -> anyhow::Result<Vec<Picture>> {
    let pixels = pixels.to_kind(Kind::Float).to_device(Device::Cpu);
    let pictures = pixels.size().first().copied().unwrap_or(0);
    (0..pictures)
        .map(|i| {
            let planes = Vec::<f32>::try_from(pixels.get(i).contiguous().view(-1))?;
            Picture::from_planes(&planes)
        })
        .collect()
}
