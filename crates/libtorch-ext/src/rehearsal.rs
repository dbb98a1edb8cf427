//! Rehearsals: hollow tensors have a shape and a dtype, and no memory. Networks run on them as on any others, on the
//! way back too, and nothing is computed. A meter ([`crate::Meter::of_rehearsal`]) counts them as if they were real: so
//! a large run's memory is known in a moment, by the code that will take it.
//!
//! tch does not know their device: asking a hollow tensor for it panics.

use tch::{Device, Kind, Tensor};

use crate::{TorchError, ffi};

/// A hollow tensor.
///
/// # Errors
/// A size below zero, or more numbers than can be counted.
pub fn hollow(shape: &[i64], kind: Kind) -> Result<Tensor, TorchError> {
    let like = Tensor::f_empty([0], (kind, Device::Cpu))?;
    let mut output = std::ptr::null_mut();
    // SAFETY: `shape.len()` integers and a live tensor, read only during the call; `output` is a place for one pointer.
    ffi::check(unsafe {
        ffi::fewstep_hollow(shape.as_ptr(), shape.len(), ffi::pointer(&like), &raw mut output)
    })?;
    // SAFETY: without an error the shim has set `output` to a new handle, which is ours.
    Ok(unsafe { Tensor::from_ptr(output.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Meter, recompute};

    /// Two maps, an attention, a norm and a convolution, kept for the way back.
    fn network(x: &Tensor, weights: &[Tensor]) -> Tensor {
        let [norm, conv, wide] = weights else {
            panic!("three weights")
        };
        let y = x.group_norm(4, Some(norm), Some(norm), 1e-5, false).silu();
        let y = y.conv2d(conv, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1) + x;
        let rows = y.flatten(2, 3).transpose(1, 2);
        let wide = rows
            .layer_norm([16], None::<&Tensor>, None::<&Tensor>, 1e-5, false)
            .linear(wide, None::<&Tensor>);
        let heads = wide.unflatten(2, [2, 8]).transpose(1, 2);
        let mixed = Tensor::scaled_dot_product_attention(
            &heads,
            &heads,
            &heads,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        mixed.gelu("none")
    }

    const SHAPES: [&[i64]; 4] = [&[2, 16, 48, 48], &[16], &[16, 16, 3, 3], &[16, 16]];

    /// What a meter shows after the way forward, and what it showed at most on the way back.
    fn metered(meter: &Meter, tensors: &[Tensor], whole: bool) -> (i64, i64) {
        let (x, weights) = (&tensors[0], &tensors[1..]);
        let before = meter.current().unwrap();
        let y = match whole {
            true => network(x, weights),
            false => recompute(tensors, |all| network(&all[0], &all[1..])).unwrap(),
        };
        let kept = meter.current().unwrap() - before;
        meter.reset_peak().unwrap();
        let _gradients = Tensor::run_backward(&[y.sum(Kind::Float)], weights, false, false);
        (kept, meter.peak().unwrap() - before)
    }

    #[test]
    fn a_rehearsal_shows_what_the_real_thing_takes() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for whole in [true, false] {
                let leaf = |t: Tensor| t.set_requires_grad(true);
                let meter = Meter::start(Device::Cpu).unwrap();
                let real = SHAPES.map(|shape| leaf(Tensor::zeros(shape, (kind, Device::Cpu))));
                let (kept, peak) = metered(&meter, &real, whole);
                let meter = Meter::of_rehearsal().unwrap();
                let hollow = SHAPES.map(|shape| leaf(hollow(shape, kind).unwrap()));
                let (kept_hollow, peak_hollow) = metered(&meter, &hollow, whole);
                assert!(kept > 100_000 || !whole);
                // A piece that is computed again keeps its generator's state, which is no hollow tensor.
                let close = |share: f64, a: i64, b: i64| (a - b).abs() as f64 <= share * b as f64 + 5056.0;
                assert!(
                    close(0.001, kept_hollow, kept),
                    "{kind:?} {whole}: keeps {kept_hollow}, really {kept}"
                );
                // Copies that oneDNN makes for a moment are its own in f32, and tensors of LibTorch's in bf16; kernels
                // have small buffers besides.
                let with_work = meter.peak_with_work().unwrap();
                assert!(with_work >= peak_hollow);
                let near = if peak > with_work {
                    with_work
                } else {
                    peak.max(peak_hollow)
                };
                assert!(
                    close(0.06, near, peak),
                    "{kind:?} {whole}: {peak_hollow} to {with_work}, really {peak}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_allocated_however_large_it_is() {
        let meter = Meter::of_rehearsal().unwrap();
        let huge = hollow(&[1 << 20, 1 << 20], Kind::Float).unwrap();
        let more = &huge + &huge;
        assert_eq!(meter.current().unwrap(), 2 << 42);
        drop((huge, more));
        assert_eq!(meter.current().unwrap(), 0);
        assert!(hollow(&[-1], Kind::Float).is_err());
    }
}
