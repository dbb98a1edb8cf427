//! The registry of named parameters. A network is a [`Layout`] (names and shapes, in diffusers' words) and
//! code that looks tensors up by [`Slot`]; [`Weights`] hold the tensors. So one network runs with the
//! student's weights, the teacher's or the target's, and a list of parameters is a plain list of tensors.
//!
//! This module knows no files ([`crate::weights`] does) and no particular network.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Index, Range};
use std::sync::Arc;

use libtorch_ext::TorchError;
use libtorch_ext::rehearsal::hollow;
use tch::{Device, Kind, Tensor};

use crate::adapters::LowRank;

/// How a parameter starts when it is not loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in [-bound, bound]: what torch gives linear and convolution weights, with 1/sqrt(fan_in).
    Uniform(f64),
    /// Normal with this standard deviation: embeddings.
    Normal(f64),
    /// All zeros.
    Zeros,
    /// All ones: the weights of norms.
    Ones,
}

/// One parameter of a network: its diffusers name, shape, and how it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// The name in diffusers' files, like `down_blocks.0.resnets.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How it starts when it is not loaded.
    pub init: Init,
}

/// The place of a parameter in its network's [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(usize);

/// The places of a module's parameters, which were declared one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    first: usize,
    end: usize,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.first..self.end
    }
}

/// A network's parameters, in the order in which it declared them.
#[derive(Debug, Default)]
pub struct Layout {
    specs: Vec<ParamSpec>,
    by_name: HashMap<String, Slot>,
    maps: Vec<Slot>,
}

impl Layout {
    /// Lets `declare` build a network below an empty root path, and returns it with the layout it declared.
    pub fn build<T>(declare: impl FnOnce(&Path<'_>) -> T) -> (T, Arc<Layout>) {
        let layout = RefCell::new(Layout::default());
        let network = declare(&Path {
            layout: &layout,
            prefix: String::new(),
        });
        (network, Arc::new(layout.into_inner()))
    }

    /// All parameters, in order of declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The parameters of a module.
    pub fn part(&self, span: Span) -> &[ParamSpec] {
        self.specs.get(span.range()).unwrap_or(&[])
    }

    /// Where the parameter of this name is.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    /// The parameter of this name.
    pub fn spec(&self, name: &str) -> Option<&ParamSpec> {
        self.slot(name).map(|slot| &self.specs[slot.0])
    }

    /// The name of the parameter at `slot`.
    pub fn name(&self, slot: Slot) -> &str {
        &self.specs[slot.0].name
    }

    /// The weights of linear maps and convolutions, in order of declaration: what adapters attach to.
    pub fn maps(&self) -> impl Iterator<Item = (Slot, &ParamSpec)> {
        self.maps.iter().map(|&slot| (slot, &self.specs[slot.0]))
    }

    /// The number of numbers in all parameters, which a hostile configuration may make as large as it likes.
    pub fn elements(&self) -> i64 {
        let of_one = |spec: &ParamSpec| spec.shape.iter().fold(1, |n: i64, &size| n.saturating_mul(size));
        self.specs
            .iter()
            .fold(0, |sum: i64, spec| sum.saturating_add(of_one(spec)))
    }
}

/// A place in a network's tree of modules, at which it declares parameters.
#[derive(Debug, Clone)]
pub struct Path<'a> {
    layout: &'a RefCell<Layout>,
    prefix: String,
}

impl Path<'_> {
    /// The module `name` below this one: `path.sub("resnets").sub(0)`.
    pub fn sub(&self, name: impl Display) -> Self {
        let prefix = match self.prefix.as_str() {
            "" => name.to_string(),
            parent => format!("{parent}.{name}"),
        };
        Path {
            layout: self.layout,
            prefix,
        }
    }

    /// Lets `declare` declare parameters, here or below, and returns their places.
    pub fn span<T>(&self, declare: impl FnOnce() -> T) -> (T, Span) {
        let count = || self.layout.borrow().specs.len();
        let first = count();
        let declared = declare();
        let end = count();
        (declared, Span { first, end })
    }

    /// Declares `weight`, that of a linear map or a convolution: `[outputs, inputs, ..]`.
    pub fn map(&self, shape: &[i64], init: Init) -> Slot {
        let slot = self.param("weight", shape, init);
        self.layout.borrow_mut().maps.push(slot);
        slot
    }

    /// Declares the parameter `leaf` of this module.
    pub fn param(&self, leaf: &str, shape: &[i64], init: Init) -> Slot {
        let mut layout = self.layout.borrow_mut();
        let slot = Slot(layout.specs.len());
        let name = self.sub(leaf).prefix;
        let earlier = layout.by_name.insert(name.clone(), slot);
        debug_assert!(earlier.is_none(), "{name} is declared twice");
        layout.specs.push(ParamSpec {
            name,
            shape: shape.to_vec(),
            init,
        });
        slot
    }
}

/// The tensors of a network, one for each slot of its layout, and the adapters attached to them; or of a part of it.
#[derive(Debug)]
pub struct Weights {
    layout: Arc<Layout>,
    /// The place of the first tensor: 0, but in a part.
    first: usize,
    tensors: Vec<Tensor>,
    adapters: HashMap<Slot, Vec<LowRank>>,
}

impl Weights {
    /// Puts tensors, in the layout's order, under their names.
    ///
    /// # Panics
    /// In debug builds, if their number is not the layout's: both come from the same code.
    pub fn new(layout: Arc<Layout>, tensors: Vec<Tensor>) -> Self {
        debug_assert_eq!(layout.specs.len(), tensors.len());
        Weights {
            layout,
            first: 0,
            tensors,
            adapters: HashMap::new(),
        }
    }

    /// The same tensors, shared, of these places alone.
    pub fn part(&self, span: Span) -> Self {
        let range = span.range();
        let tensors = range.clone().map(|place| self[Slot(place)].shallow_clone());
        let of_each = |list: &Vec<LowRank>| {
            list.iter()
                .map(|adapter| adapter.map(Tensor::shallow_clone))
                .collect()
        };
        let adapters = self.adapters.iter().filter(|(slot, _)| range.contains(&slot.0));
        Weights {
            layout: self.layout.clone(),
            first: span.first,
            tensors: tensors.collect(),
            adapters: adapters.map(|(slot, list)| (*slot, of_each(list))).collect(),
        }
    }

    /// The same tensors, shared, with one more adapter at each of these slots.
    pub fn with_adapters(&self, adapters: impl IntoIterator<Item = (Slot, LowRank)>) -> Self {
        let mut weights = self.map(Tensor::shallow_clone);
        for (slot, adapter) in adapters {
            weights.adapters.entry(slot).or_default().push(adapter);
        }
        weights
    }

    /// The adapters at a slot.
    pub(crate) fn adapters(&self, slot: Slot) -> &[LowRank] {
        self.adapters.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Random weights in f32, each as its [`Init`] says, from LibTorch's generator.
    pub fn random(layout: &Arc<Layout>, device: Device) -> Self {
        Weights::random_as(layout, Kind::Float, device)
    }

    /// The same weights rounded to `kind`, one after another: never all of them in f32.
    pub fn random_as(layout: &Arc<Layout>, kind: Kind, device: Device) -> Self {
        let options = (Kind::Float, device);
        let tensors = layout.specs.iter().map(|spec| match spec.init {
            Init::Uniform(bound) => Tensor::empty(&spec.shape, options).uniform_(-bound, bound),
            Init::Normal(std) => Tensor::empty(&spec.shape, options).normal_(0.0, std),
            Init::Zeros => Tensor::zeros(&spec.shape, options),
            Init::Ones => Tensor::ones(&spec.shape, options),
        });
        Weights::new(layout.clone(), tensors.map(|t| t.to_kind(kind)).collect())
    }

    /// Weights without memory, to rehearse with.
    ///
    /// # Errors
    /// A parameter that is larger than can be counted.
    pub fn hollow(layout: &Arc<Layout>, kind: Kind) -> Result<Self, TorchError> {
        let tensors = layout.specs.iter().map(|spec| hollow(&spec.shape, kind));
        Ok(Weights::new(layout.clone(), tensors.collect::<Result<_, _>>()?))
    }

    /// The layout that these tensors fill.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// All tensors, in the layout's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let slot = self.layout.slot(name)?;
        self.tensors.get(slot.0.checked_sub(self.first)?)
    }

    /// All tensors with their names, in the layout's order.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let specs = self.layout.specs.iter().skip(self.first);
        specs.map(|spec| spec.name.as_str()).zip(&self.tensors)
    }

    /// The same network with every tensor, those of adapters too, replaced by `f` of it.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Tensor) -> Self {
        let tensors = self.tensors.iter().map(&mut f).collect();
        let mut of_each = |list: &Vec<LowRank>| list.iter().map(|adapter| adapter.map(&mut f)).collect();
        let adapters = self.adapters.iter().map(|(slot, list)| (*slot, of_each(list)));
        Weights {
            layout: self.layout.clone(),
            first: self.first,
            tensors,
            adapters: adapters.collect(),
        }
    }

    /// The same network, adapters and all, with every tensor of its layout replaced by `f` of slot and tensor.
    pub fn map_slots(&self, mut f: impl FnMut(Slot, &Tensor) -> Tensor) -> Self {
        let mut weights = self.map(Tensor::shallow_clone);
        for (place, tensor) in weights.tensors.iter_mut().enumerate() {
            *tensor = f(Slot(self.first + place), tensor);
        }
        weights
    }

    /// These weights in `kind`. A tensor that has it already is shared, not copied; where gradients are on
    /// and the tensor wants them, they flow back through the cast into it.
    pub fn to_kind(&self, kind: Kind) -> Self {
        self.map(|t| t.to_kind(kind))
    }

    /// These weights on `device`; shared, not copied, where they are there already.
    pub fn to_device(&self, device: Device) -> Self {
        self.map(|t| t.to_device(device))
    }

    /// A copy of its own, outside any graph.
    pub fn deep_clone(&self) -> Self {
        self.map(|t| t.detach().copy())
    }

    /// The same tensors as leaves that want gradients.
    pub fn trainable(&self) -> Self {
        self.map(|t| t.detach().set_requires_grad(true))
    }

    /// The dtype of the first tensor: a network's weights share one.
    pub fn kind(&self) -> Kind {
        self.tensors.first().map_or(Kind::Float, Tensor::kind)
    }

    /// `tensor` in the dtype of these weights, and where they are.
    pub(crate) fn cast(&self, tensor: &Tensor) -> Tensor {
        match self.tensors.first() {
            Some(first) => tensor.to_other(first, false, false),
            None => tensor.shallow_clone(),
        }
    }

    /// The device of the first tensor: a network's weights share one.
    pub fn device(&self) -> Device {
        self.tensors.first().map_or(Device::Cpu, Tensor::device)
    }
}

impl Index<Slot> for Weights {
    type Output = Tensor;

    fn index(&self, slot: Slot) -> &Tensor {
        &self.tensors[slot.0 - self.first]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_and_order_is_kept() {
        let (slots, layout) = Layout::build(|root| {
            let block = root.sub("down_blocks").sub(0);
            [
                block.param("weight", &[2, 3], Init::Ones),
                root.param("bias", &[4], Init::Zeros),
            ]
        });
        let weights = Weights::random(&layout, Device::Cpu);
        let names: Vec<_> = weights.named().map(|(name, _)| name).collect();
        assert_eq!(names, ["down_blocks.0.weight", "bias"]);
        assert_eq!(layout.elements(), 10);
        assert_eq!(weights[slots[0]].size(), [2, 3]);
        assert_eq!(layout.slot("bias"), Some(slots[1]));
    }

    #[test]
    fn a_cast_of_trainable_weights_carries_gradients_back() {
        let (slot, layout) = Layout::build(|root| root.param("weight", &[2], Init::Ones));
        let master = Weights::random(&layout, Device::Cpu).trainable();
        let copy = master.to_kind(Kind::BFloat16);
        (&copy[slot] * 3.0).sum(Kind::Float).backward();
        let grad = master[slot].grad();
        assert_eq!(grad.kind(), Kind::Float);
        assert_eq!(grad.double_value(&[0]), 3.0);
    }
}
