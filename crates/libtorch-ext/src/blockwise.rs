//! AdamW with moments in 8 bits by LibTorch's own operators, for devices that [`crate::sweep`] does not serve. It
//! gives the sweep's numbers, and nobody waits for the device.

use tch::{Device, Kind, Tensor};

use crate::lists::AdamW;
use crate::map::{Map, SIGNED, UNSIGNED};
use crate::moments::{BLOCK, Blocks};
use crate::{TorchError, catch};

/// Numbers of a parameter that are in f32 at a time.
const SLICE: i64 = 1 << 21;
/// What one of them takes meanwhile, in bytes, its several values at once.
const WORKING: u64 = 24;

/// The bytes that an update of a parameter of so many numbers takes for its time.
pub fn working_bytes(numbers: u64) -> u64 {
    WORKING * numbers.min(SLICE as u64)
}

/// The maps of both moments on one device.
#[derive(Debug)]
pub struct Maps {
    first: OnDevice,
    second: OnDevice,
}

#[derive(Debug)]
struct OnDevice {
    values: Tensor,
    bounds: Tensor,
}

/// What an update changes: an f32 weight, its two moments, and its updates so far (an f32 scalar).
#[derive(Debug)]
pub struct Changed<'a> {
    /// The weight, contiguous.
    pub param: &'a Tensor,
    /// The moving average of the gradient.
    pub exp_avg: &'a Blocks,
    /// The moving average of its square.
    pub exp_avg_sq: &'a Blocks,
    /// Counted up, unless the update is skipped.
    pub step: &'a Tensor,
}

impl Maps {
    /// Puts the maps on a device.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn new(device: Device) -> Result<Self, TorchError> {
        let put = |map: &Map| OnDevice {
            values: Tensor::from_slice(&map.values).to_device(device),
            bounds: Tensor::from_slice(&map.bounds[..255]).to_device(device),
        };
        catch(|| Maps {
            first: put(&SIGNED),
            second: put(&UNSIGNED),
        })
    }

    /// The device that they are on.
    pub fn device(&self) -> Device {
        self.first.values.device()
    }

    /// One update by `gradient`, except where the f32 scalar `skip` is 1.
    ///
    /// # Errors
    /// What LibTorch refuses.
    pub fn update(
        &self,
        changed: &Changed,
        gradient: &Tensor,
        adamw: AdamW,
        skip: &Tensor,
    ) -> Result<(), TorchError> {
        catch(|| {
            let scalar = |value: f64| Tensor::full([1], value, (Kind::Float, gradient.device()));
            let keep = skip.not_equal(0.0);
            let counted = changed.step + 1.0;
            // In f64 as the sweep does, and on the device.
            let correction =
                |beta: f64| -> Tensor { 1.0 - (counted.to_kind(Kind::Double) * beta.ln()).exp() };
            let minus_step = (correction(adamw.beta1).reciprocal() * -adamw.lr).to_kind(Kind::Float);
            let root = correction(adamw.beta2).sqrt().to_kind(Kind::Float);
            let (toward1, toward2) = (scalar(1.0 - adamw.beta1), scalar(1.0 - adamw.beta2));
            let (param, gradient) = (changed.param.detach().view([-1]), gradient.reshape([-1]));
            let numbers = param.size()[0];
            for begin in (0..numbers).step_by(SLICE as usize) {
                let length = SLICE.min(numbers - begin);
                let (exp_avg, exp_avg_sq) = (
                    changed.exp_avg.slice(begin, length),
                    changed.exp_avg_sq.slice(begin, length),
                );
                let mut p = param.narrow(0, begin, length);
                let g = gradient.narrow(0, begin, length).to_kind(Kind::Float);
                let m = (self.first.decode(&exp_avg) * adamw.beta1).addcmul(&g, &toward1);
                let v = (self.second.decode(&exp_avg_sq) * adamw.beta2).addcmul(&(&g * &toward2), &g);
                let denominator = v.sqrt() / &root + adamw.eps;
                let moved = &p * (1.0 - adamw.lr * adamw.weight_decay) + (&m * &minus_step) / denominator;
                p.copy_(&p.where_self(&keep, &moved));
                self.first.encode(&m, exp_avg, &keep);
                self.second.encode(&v, exp_avg_sq, &keep);
            }
            changed
                .step
                .shallow_clone()
                .copy_(&changed.step.where_self(&keep, &counted));
        })
    }
}

impl OnDevice {
    /// The numbers, f32 `[n]`.
    fn decode(&self, blocks: &Blocks) -> Tensor {
        let numbers = blocks.codes.size()[0];
        let values = self.values.index_select(0, &blocks.codes.to_kind(Kind::Int));
        (in_blocks(&values) * blocks.absmax.unsqueeze(1))
            .view([-1])
            .narrow(0, 0, numbers)
    }

    /// Writes `numbers` into `blocks`, unless `keep`.
    fn encode(&self, numbers: &Tensor, mut blocks: Blocks, keep: &Tensor) {
        let rows = in_blocks(numbers);
        let absmax = rows.abs().amax([1], false);
        let inverse = absmax.clamp_min(1e-38).reciprocal();
        let scaled = (rows * inverse.unsqueeze(1)).clamp(-1.0, 1.0);
        let codes = scaled.bucketize(&self.bounds, true, false).to_kind(Kind::Uint8);
        let codes = codes.view([-1]).narrow(0, 0, numbers.size()[0]);
        let codes = blocks.codes.where_self(keep, &codes);
        blocks.codes.copy_(&codes);
        let absmax = blocks.absmax.where_self(keep, &absmax);
        blocks.absmax.copy_(&absmax);
    }
}

impl Blocks {
    /// Some of the numbers, from the beginning of a block on: views.
    fn slice(&self, begin: i64, length: i64) -> Blocks {
        Blocks {
            codes: self.codes.view([-1]).narrow(0, begin, length),
            absmax: self.absmax.narrow(0, begin / BLOCK, (length + BLOCK - 1) / BLOCK),
        }
    }
}

/// `[n]` as `[blocks, 256]`, with zeros behind.
fn in_blocks(flat: &Tensor) -> Tensor {
    let whole = match flat.size()[0].rem_euclid(BLOCK) {
        0 => flat.shallow_clone(),
        rest => flat.constant_pad_nd([0, BLOCK - rest]),
    };
    whole.view([-1, BLOCK])
}
