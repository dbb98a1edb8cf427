//! Gradient checkpointing: the pieces of the network that can be computed again in the backward pass, and which of
//! them are.
//!
//! A piece keeps its inputs only. What it costs is one more forward pass of the piece; the gradients are the same to
//! the last bit. For that, the gradients of an input that several operations use are summed within the piece first,
//! whether or not it is computed again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use libtorch_ext::Meter;
use tch::Tensor;

use crate::params::{Layout, Path, Span, Weights};

/// A piece that can be computed again: a residual block or a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub(super) span: Span,
    /// How often the feature map was halved before it: the pieces of level 0 have the largest activations.
    pub level: usize,
}

impl Piece {
    /// The multiplications of one sample in this piece of the network with `layout`, where level 0 has `places`
    /// pixels: of linear maps, convolutions and attention over the map; all else is small beside them.
    pub fn multiplications(&self, layout: &Layout, places: f64) -> f64 {
        let places = places / 4f64.powi(i32::try_from(self.level).unwrap_or(i32::MAX));
        let shapes = || layout.part(self.span).iter().map(|spec| spec.shape.as_slice());
        let of = |dimensions: usize| -> f64 {
            let maps = shapes().filter(|shape| shape.len() == dimensions);
            maps.map(|shape| shape.iter().product::<i64>() as f64).sum()
        };
        match of(4) {
            // Queries by keys, and that by values.
            0.0 => {
                let width = shapes().next().and_then(|shape| shape.first()).copied();
                of(2) * places + 2.0 * places * places * width.unwrap_or(0) as f64
            }
            // Of a residual block, the map of the time embedding alone is no convolution.
            convolutions => convolutions * places,
        }
    }
}

/// The pieces that are computed again; the others keep their activations.
#[derive(Debug, Default)]
pub struct Recomputed {
    spans: HashSet<Span>,
    notes: Option<Notes>,
}

/// How much each piece keeps, as a meter saw it grow.
#[derive(Debug)]
struct Notes {
    meter: Meter,
    kept: RefCell<HashMap<Span, i64>>,
}

impl Recomputed {
    /// None: every activation is kept.
    pub fn none() -> Self {
        Recomputed::default()
    }

    /// None, and [`Recomputed::kept`] knows afterwards by how much each piece made `meter` grow.
    pub fn none_noting(meter: Meter) -> Self {
        Recomputed {
            spans: HashSet::new(),
            notes: Some(Notes {
                meter,
                kept: RefCell::default(),
            }),
        }
    }

    /// What was noted of a piece: the bytes that it kept beside its output.
    pub fn kept(&self, piece: &Piece) -> Option<i64> {
        self.notes.as_ref()?.kept.borrow().get(&piece.span).copied()
    }

    /// These pieces.
    pub fn these<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> Self {
        Recomputed {
            spans: pieces.into_iter().map(|piece| piece.span).collect(),
            notes: None,
        }
    }

    /// The `count` pieces that have most to save: those of the largest feature maps first.
    pub fn largest(pieces: &[Piece], count: usize) -> Self {
        let mut sorted: Vec<&Piece> = pieces.iter().collect();
        sorted.sort_by_key(|piece| piece.level);
        Recomputed::these(sorted.into_iter().take(count))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn holds(&self, span: Span) -> bool {
        self.spans.contains(&span)
    }
}

impl Notes {
    fn take(&self, span: Span, run: impl FnOnce() -> Tensor) -> Tensor {
        // A meter on its own thread always answers.
        let now = || self.meter.current().unwrap_or(0);
        let before = now();
        let output = run();
        let own = output.numel() * output.kind().elt_size_in_bytes();
        let kept = now() - before - i64::try_from(own).unwrap_or(i64::MAX);
        self.kept.borrow_mut().insert(span, kept);
        output
    }
}

/// A module with the place of its parameters, so that it can be run with them alone.
#[derive(Debug)]
pub(super) struct Recomputable<T> {
    module: Arc<T>,
    piece: Piece,
}

impl<T: Send + Sync + 'static> Recomputable<T> {
    /// The module that `declare` makes, at `level`.
    pub(super) fn new(path: &Path<'_>, level: usize, declare: impl FnOnce(&Path<'_>) -> T) -> Self {
        let (module, span) = path.span(|| declare(path));
        Recomputable {
            module: Arc::new(module),
            piece: Piece { span, level },
        }
    }

    pub(super) fn piece(&self) -> Piece {
        self.piece
    }

    /// Runs `body` with the module, its weights and `inputs`; if `recomputed` says so, without keeping what lies
    /// between.
    ///
    /// # Panics
    /// Where LibTorch does, as every operation of a network.
    pub(super) fn run(
        &self,
        recomputed: &Recomputed,
        weights: &Weights,
        inputs: &[&Tensor],
        body: impl Fn(&T, &Weights, &[Tensor]) -> Tensor + Send + 'static,
    ) -> Tensor {
        if !recomputed.holds(self.piece.span) {
            // A node of the graph at which the gradients of all uses meet.
            let joint = |input: &&Tensor| match input.requires_grad() {
                true => input.alias(),
                false => input.shallow_clone(),
            };
            let inputs: Vec<Tensor> = inputs.iter().map(joint).collect();
            let run = || body(&self.module, weights, &inputs);
            return match &recomputed.notes {
                Some(notes) => notes.take(self.piece.span, run),
                None => run(),
            };
        }
        let mut list: Vec<Tensor> = inputs.iter().map(|input| input.shallow_clone()).collect();
        let part = weights.part(self.piece.span);
        // Gradients flow to what is handed over, so everything that is trained is.
        part.map(|tensor| {
            if tensor.requires_grad() {
                list.push(tensor.shallow_clone());
            }
            tensor.shallow_clone()
        });
        let (module, count) = (self.module.clone(), inputs.len());
        let output = libtorch_ext::recompute(&list, move |tensors| {
            let (inputs, trained) = tensors.split_at(count);
            let mut trained = trained.iter();
            let weights = part.map(|tensor| match tensor.requires_grad() {
                true => trained.next().unwrap_or(tensor).shallow_clone(),
                false => tensor.shallow_clone(),
            });
            body(&module, &weights, inputs)
        });
        // As tch's own operators do where LibTorch refuses: whoever runs a network stands behind `catch`.
        output.unwrap_or_else(|error| panic!("{error}"))
    }
}
