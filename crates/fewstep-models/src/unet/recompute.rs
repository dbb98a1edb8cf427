//! Gradient checkpointing: the pieces of the network that can be computed again in the backward pass, and which of
//! them are.
//!
//! A piece keeps its inputs only. What it costs is one more forward pass of the piece; the gradients are the same to
//! the last bit. For that, the gradients of an input that several operations use are summed within the piece first,
//! whether or not it is computed again.

use std::collections::HashSet;
use std::sync::Arc;

use tch::Tensor;

use crate::params::{Path, Span, Weights};

/// A piece that can be computed again: a residual block or a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub(super) span: Span,
    /// How often the feature map was halved before it: the pieces of level 0 have the largest activations.
    pub level: usize,
}

/// The pieces that are computed again; the others keep their activations.
#[derive(Debug, Clone, Default)]
pub struct Recomputed {
    spans: HashSet<Span>,
}

impl Recomputed {
    /// None: every activation is kept.
    pub fn none() -> Self {
        Recomputed::default()
    }

    /// The `count` pieces that have most to save: those of the largest feature maps first.
    pub fn largest(pieces: &[Piece], count: usize) -> Self {
        let mut sorted: Vec<&Piece> = pieces.iter().collect();
        sorted.sort_by_key(|piece| piece.level);
        Recomputed {
            spans: sorted.iter().take(count).map(|piece| piece.span).collect(),
        }
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
            return body(
                &self.module,
                weights,
                &inputs.iter().map(joint).collect::<Vec<_>>(),
            );
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
