//! Finished adapters on a network: attached beside its weights, or added into them. Both paint the same.

use std::collections::BTreeMap;

use libtorch_ext::{NoGrad, catch};
use tch::{Kind, Tensor};

use super::low_rank::LowRank;
use super::targets::module_name;
use crate::params::{Layout, Slot, Weights};
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

/// Why an adapter does not belong to a network; the sentence goes on after the adapter's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// There is no such module.
    #[error("belongs to no linear map or convolution of this network")]
    NoModule,
    /// The module has another shape.
    #[error("has the shapes {a:?} and {b:?}, but the module's weight is {weight:?}")]
    Shapes {
        /// The map down.
        a: Vec<i64>,
        /// The map up.
        b: Vec<i64>,
        /// The module's own.
        weight: Vec<i64>,
    },
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

/// The adapters, by module, that do not belong to a network with these parameters, and why.
pub fn misfits<'a>(
    network: &Layout,
    adapters: impl IntoIterator<Item = (&'a str, Stored<'a>)>,
) -> Vec<(&'a str, Misfit)> {
    let slots = slots(network);
    let misfit = |(module, stored)| Some((module, fit(&slots, module, stored).err()?));
    adapters.into_iter().filter_map(misfit).collect()
}

fn place<'a>(
    weights: &Weights,
    adapters: impl IntoIterator<Item = (&'a str, Stored<'a>)>,
    weight: f64,
) -> Result<Vec<(Slot, LowRank)>, ModelError> {
    let slots = slots(weights.layout());
    let placed = adapters.into_iter().map(|(module, stored)| {
        let Place { slot, a, b } = fit(&slots, module, stored).map_err(|misfit| {
            ModelError::input(
                format!("the adapter of `{module}`"),
                format!("{misfit}: it was made for another architecture"),
            )
        })?;
        let adapter = LowRank {
            a: stored.a.f_reshape(a.as_slice())?,
            b: stored.b.f_reshape(b.as_slice())?,
            scale: weight * stored.alpha / a[0] as f64,
            dropout: 0.0,
        };
        Ok((slot, adapter))
    });
    placed.collect()
}

/// The modules of a network that can have an adapter: where their weights are, and of which shapes.
fn slots(network: &Layout) -> BTreeMap<&str, (Slot, &[i64])> {
    network
        .maps()
        .map(|(slot, spec)| (module_name(&spec.name), (slot, spec.shape.as_slice())))
        .collect()
}

/// Where an adapter goes, and the shapes that its matrices have there.
struct Place {
    slot: Slot,
    a: Vec<i64>,
    b: Vec<i64>,
}

/// The place of an adapter. Linear adapters of 1x1 convolutions, and the other way round, differ only in
/// dimensions of 1.
fn fit(slots: &BTreeMap<&str, (Slot, &[i64])>, module: &str, stored: Stored<'_>) -> Result<Place, Misfit> {
    let Some(&(slot, base)) = slots.get(module) else {
        return Err(Misfit::NoModule);
    };
    let rank = stored.a.size().first().copied().unwrap_or(0);
    let mut a = base.to_vec();
    let mut b = vec![1; a.len()];
    (b[0], b[1]) = (a[0], rank);
    a[0] = rank;
    let fits = |tensor: &Tensor, shape: &[i64]| tensor.numel() as i64 == shape.iter().product::<i64>();
    match rank > 0 && fits(stored.a, &a) && fits(stored.b, &b) {
        true => Ok(Place { slot, a, b }),
        false => Err(Misfit::Shapes {
            a: stored.a.size(),
            b: stored.b.size(),
            weight: base.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bias, Conv2d, Linear};
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
        let stored = Stored {
            a: &tensor,
            b: &tensor.reshape([5, 2]),
            alpha: 1.0,
        };
        let found = misfits(
            weights.layout(),
            [("to_q", stored), ("to_k", stored), ("conv", stored)],
        );
        assert_eq!(found.len(), 3, "{found:?}");
        let fitting = Stored {
            b: &tensor.reshape([5, 2]).narrow(0, 0, 4),
            ..stored
        };
        assert_eq!(
            misfits(weights.layout(), [("to_q", fitting), ("to_k", fitting)]),
            [("to_k", Misfit::NoModule)]
        );
        let shapes = message("conv");
        assert!(
            shapes.contains("[2, 5]") && shapes.contains("[6, 4, 3, 3]"),
            "{shapes}"
        );
    }
}
