//! The adapters of one training: a layout of their own, whose tensors are trained and saved like any
//! network's, and the places in the frozen network where they are attached.

use std::sync::Arc;

use tch::Tensor;

use super::low_rank::LowRank;
use super::targets::{Targets, module_name};
use crate::params::{Init, Layout, Slot, Weights};
use crate::weights::ModelError;

/// What adapters are like.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterOptions {
    /// r: the width between the two maps.
    pub rank: i64,
    /// An adapter counts alpha / r times.
    pub alpha: f64,
    /// The share of inputs that are dropped in training.
    pub dropout: f64,
    /// The modules that get one.
    pub targets: Targets,
}

/// Whether inputs of adapters are dropped: only the student's are, while it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropout {
    /// They are, where the options say so.
    On,
    /// They are not.
    Off,
}

/// Adapters on a network: names, shapes and places. Their tensors are [`Weights`] of [`AdapterSet::layout`].
#[derive(Debug, Clone)]
pub struct AdapterSet {
    options: AdapterOptions,
    layout: Arc<Layout>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// The frozen weight, in the network's layout.
    base: Slot,
    /// The adapter's two weights, in the set's own.
    a: Slot,
    b: Slot,
}

impl AdapterSet {
    /// Adapters on the modules of `network` that the options name. They start as peft's do: A uniform within
    /// 1/sqrt(fan_in), B zeros, so that at first they change nothing.
    ///
    /// # Errors
    /// A target that is no module of the network.
    pub fn new(network: &Layout, options: AdapterOptions) -> Result<Self, ModelError> {
        options.targets.check(network)?;
        let (places, layout) = Layout::build(|root| {
            let chosen = network
                .maps()
                .filter(|(_, spec)| options.targets.hold(module_name(&spec.name)));
            let places = chosen.map(|(base, spec)| {
                let module = root.sub(module_name(&spec.name));
                let mut a = spec.shape.clone();
                a[0] = options.rank;
                let mut b = vec![1; a.len()];
                (b[0], b[1]) = (spec.shape[0], options.rank);
                let fan_in: i64 = a[1..].iter().product();
                Place {
                    base,
                    a: module
                        .sub("lora_A")
                        .param("weight", &a, Init::Uniform(1.0 / (fan_in as f64).sqrt())),
                    b: module.sub("lora_B").param("weight", &b, Init::Zeros),
                }
            });
            places.collect()
        });
        Ok(AdapterSet {
            options,
            layout,
            places,
        })
    }

    /// The adapters' parameters: `MODULE.lora_A.weight` and `MODULE.lora_B.weight`, as peft calls them.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What the adapters are like.
    pub fn options(&self) -> &AdapterOptions {
        &self.options
    }

    /// The number of modules that have one.
    pub fn modules(&self) -> usize {
        self.places.len()
    }

    /// The frozen weights of the network with these adapters on them; all tensors are shared, so a change of
    /// the adapters in place is seen, and gradients flow to them.
    pub fn attach(&self, base: &Weights, adapters: &Weights, dropout: Dropout) -> Weights {
        let AdapterOptions { rank, alpha, .. } = self.options;
        base.with_adapters(self.places.iter().map(|place| {
            let adapter = LowRank {
                a: adapters[place.a].shallow_clone(),
                b: adapters[place.b].shallow_clone(),
                scale: alpha / rank as f64,
                dropout: match dropout {
                    Dropout::On => self.options.dropout,
                    Dropout::Off => 0.0,
                },
            };
            (place.base, adapter)
        }))
    }

    /// The two tensors of every module, by the module's name.
    pub fn named<'a>(
        &'a self,
        adapters: &'a Weights,
    ) -> impl Iterator<Item = (&'a str, &'a Tensor, &'a Tensor)> {
        self.places.iter().map(move |place| {
            let name = &self.layout.name(place.a);
            let module = name.strip_suffix(".lora_A.weight").unwrap_or(name);
            (module, &adapters[place.a], &adapters[place.b])
        })
    }
}
