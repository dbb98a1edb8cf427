//! Finished adapters on a network: attached beside its weights, or added into them. Both paint the same.

use std::collections::BTreeMap;

use libtorch_ext::{NoGrad, catch};
use tch::{Kind, Tensor};

use super::low_rank::LowRank;
use super::targets::module_name;
use crate::params::{Slot, Weights};
use crate::weights::ModelError;

/// An adapter of one module, as a file holds it.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// `[r, inputs, ..]`.
    pub a: &'a Tensor,
    /// `[outputs, r, ..]`.
    pub b: &'a Tensor,
    /// It counts alpha / r times.
    pub alpha: f64,
}

/// The weights with these adapters, by module, attached beside them; `weight` is how much they count. The
/// tensors are taken to the weights' dtype and device.
///
/// # Errors
/// A module that the network does not have, or shapes that do not fit it.
pub fn attach<'a>(
    weights: &Weights,
    adapters: impl IntoIterator<Item = (&'a str, Stored<'a>)>,
    weight: f64,
) -> Result<Weights, ModelError> {
    let placed = place(weights, adapters, weight)?;
    Ok(catch(|| {
        let (kind, device) = (weights.kind(), weights.device());
        weights.with_adapters(
            placed
                .into_iter()
                .map(|(slot, adapter)| (slot, adapter.map(|t| t.to_kind(kind).to_device(device)))),
        )
    })?)
}

/// The weights with these adapters, by module, added into them. The sum is taken in f32 and rounded once.
///
/// # Errors
/// As [`attach`].
pub fn fuse<'a>(
    weights: &Weights,
    adapters: impl IntoIterator<Item = (&'a str, Stored<'a>)>,
    weight: f64,
) -> Result<Weights, ModelError> {
    let placed: BTreeMap<Slot, LowRank> = place(weights, adapters, weight)?.into_iter().collect();
    Ok(catch(|| {
        let _no_grad = NoGrad::new();
        let (kind, device) = (weights.kind(), weights.device());
        weights.map_slots(|slot, tensor| match placed.get(&slot) {
            None => tensor.shallow_clone(),
            Some(adapter) => {
                let change = adapter.change().to_device(device);
                (tensor.to_kind(Kind::Float) + change.view_as(tensor)).to_kind(kind)
            }
        })
    })?)
}

fn place<'a>(
    weights: &Weights,
    adapters: impl IntoIterator<Item = (&'a str, Stored<'a>)>,
    weight: f64,
) -> Result<Vec<(Slot, LowRank)>, ModelError> {
    let slots: BTreeMap<&str, Slot> = weights
        .layout()
        .maps()
        .map(|(slot, spec)| (module_name(&spec.name), slot))
        .collect();
    let placed = adapters.into_iter().map(|(module, stored)| {
        let Some(&slot) = slots.get(module) else {
            return Err(ModelError::input(
                format!("the adapter of `{module}`"),
                "belongs to no linear map or convolution of this network: it was made for another architecture",
            ));
        };
        let adapter = fitted(module, stored, &weights[slot], weight)?;
        Ok((slot, adapter))
    });
    placed.collect()
}

/// The adapter in the shape that its place wants: linear adapters of 1x1 convolutions, and the other way
/// round, differ only in dimensions of 1.
fn fitted(module: &str, stored: Stored<'_>, base: &Tensor, weight: f64) -> Result<LowRank, ModelError> {
    let rank = stored.a.size().first().copied().unwrap_or(0);
    let mut a = base.size();
    let mut b = vec![1; a.len()];
    (b[0], b[1]) = (a[0], rank);
    a[0] = rank;
    let fits = |tensor: &Tensor, shape: &[i64]| tensor.numel() as i64 == shape.iter().product::<i64>();
    if rank == 0 || !fits(stored.a, &a) || !fits(stored.b, &b) {
        return Err(ModelError::input(
            format!("the adapter of `{module}`"),
            format!(
                "has the shapes {:?} and {:?}, but the module's weight is {:?}: it was made for another \
                 architecture",
                stored.a.size(),
                stored.b.size(),
                base.size()
            ),
        ));
    }
    Ok(LowRank {
        a: stored.a.f_reshape(a.as_slice())?,
        b: stored.b.f_reshape(b.as_slice())?,
        scale: weight * stored.alpha / rank as f64,
        dropout: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bias, Conv2d, Linear};
    use crate::params::Layout;
    use tch::Device;

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn network() -> ((Linear, Conv2d), Weights) {
        tch::manual_seed(3);
        let (network, layout) = Layout::build(|root| {
            (
                Linear::new(&root.sub("to_q"), 5, 4, Bias::Yes),
                Conv2d::new(&root.sub("conv"), 4, 6, 3, 2, 1, Bias::Yes),
            )
        });
        (network, Weights::random(&layout, Device::Cpu))
    }

    #[test]
    fn attached_and_fused_adapters_do_the_same_and_add_up() {
        let ((linear, conv), weights) = network();
        let [a, b] = [[2, 5], [4, 2]].map(|shape| Tensor::randn(shape, F32));
        let [conv_a, conv_b] = [[3, 4, 3, 3], [6, 3, 1, 1]].map(|shape| Tensor::randn(shape, F32));
        let stored = |a, b| Stored { a, b, alpha: 3.0 };
        let first = [("to_q", stored(&a, &b)), ("conv", stored(&conv_a, &conv_b))];
        let second = [("to_q", stored(&a, &b))];
        let beside = attach(&attach(&weights, first, 0.8).unwrap(), second, -0.3).unwrap();
        let added = fuse(&fuse(&weights, first, 0.8).unwrap(), second, -0.3).unwrap();
        let x = Tensor::randn([2, 7, 7, 5], F32);
        let run = |weights: &Weights| {
            let hidden = linear.forward(weights, &x).permute([0, 3, 1, 2]);
            conv.forward(weights, &hidden)
        };
        assert!(run(&beside).allclose(&run(&added), 1e-4, 1e-4, false));
        assert!(!run(&weights).allclose(&run(&added), 1e-2, 1e-2, false));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (_, weights) = network();
        let tensor = Tensor::randn([2, 5], F32);
        let message = |module| {
            let stored = Stored {
                a: &tensor,
                b: &tensor,
                alpha: 1.0,
            };
            attach(&weights, [(module, stored)], 1.0).unwrap_err().to_string()
        };
        assert!(message("to_k").contains("`to_k`"), "{}", message("to_k"));
        let shapes = message("conv");
        assert!(
            shapes.contains("[2, 5]") && shapes.contains("[6, 4, 3, 3]"),
            "{shapes}"
        );
    }
}
