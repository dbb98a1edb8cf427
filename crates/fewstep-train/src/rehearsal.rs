//! What an optimiser step takes on top of what is held for the whole run: its networks run on hollow tensors, which
//! have shapes and no memory, while a meter counts them. It takes a moment, however large the run is.
//!
//! It knows the order of a step's phases and the sizes of what they are given, nothing of files and devices. What is
//! around the networks (the schedule, the loss) handles latents, and is too small to be rehearsed.

use fewstep_models::adapters::Dropout;
use fewstep_models::clip::ClipTextModel;
use fewstep_models::params::Weights;
use fewstep_models::pipeline::{AddedTensors, Conditions};
use fewstep_models::unet::{Piece, Recomputed, UNet2DConditionModel};
use fewstep_models::vae::AutoencoderKl;
use libtorch_ext::backward::backward_each;
use libtorch_ext::rehearsal::hollow;
use libtorch_ext::{Meter, NoGrad, catch};
use tch::{Device, Kind, Tensor};

use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::networks::Branch;
use crate::student::Architectures;

/// The sizes of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Samples of a micro-batch.
    pub(crate) batch: i64,
    /// Micro-batches of an optimiser step.
    pub(crate) micro_batches: u32,
    /// Height and width of the latents.
    pub(crate) side: i64,
    /// Tokens of a prompt, and the width of their embeddings.
    pub(crate) prompt: [i64; 2],
    /// What the UNet computes in.
    pub(crate) kind: Kind,
}

/// What the student's passes take, in bytes on top of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passes {
    /// While its activations grow.
    pub(crate) forward: u64,
    /// What it keeps of them for the way back.
    pub(crate) activations: u64,
    /// On the way back, gradients and all.
    pub(crate) backward: u64,
    /// The gradients of an optimiser step.
    pub(crate) gradients: u64,
}

/// Rehearses steps of some networks.
#[derive(Debug)]
pub(crate) struct Rehearsal<'a> {
    pub(crate) architectures: &'a Architectures,
    pub(crate) sizes: Sizes,
    pub(crate) working: Working,
    pub(crate) summing: Summing,
}

/// Where the gradients of an update are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summing {
    /// In the tensors that they come in.
    Here,
    /// In the buckets of several ranks, which are held for the whole run: each comes by itself, and is let go.
    InBuckets,
}

/// Whether working memory that kernels take beside tensors counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Working {
    /// It does: on the CPU, where oneDNN copies into an order of its own.
    Counts,
    /// It does not: on CUDA, whose kernels' working memory is not known here.
    IsUnknown,
}

impl Working {
    fn peak(self, meter: &Meter) -> Result<u64, TrainError> {
        let peak = match self {
            Working::Counts => meter.peak_with_work()?,
            Working::IsUnknown => meter.peak()?,
        };
        Ok(bytes(peak))
    }
}

/// A meter that is younger than what it counts may go below zero.
fn bytes(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl Rehearsal<'_> {
    /// The teacher, asked with the prompt and without it at once.
    pub(crate) fn teacher(&self) -> Result<u64, TrainError> {
        let unet = &self.architectures.teacher;
        let weights = Weights::hollow(unet.layout(), self.sizes.kind)?;
        self.without_graph(unet, &weights, 2 * self.sizes.batch)
    }

    /// The target.
    pub(crate) fn target(&self) -> Result<u64, TrainError> {
        let (weights, _) = self.student_weights(Dropout::Off)?;
        self.without_graph(self.architectures.unet(), &weights, self.sizes.batch)
    }

    /// The student's way forward and back.
    pub(crate) fn student(&self, recomputed: &Recomputed) -> Result<Passes, TrainError> {
        let unet = self.architectures.unet();
        let (weights, trained) = self.student_weights(Dropout::On)?;
        let meter = Meter::of_rehearsal()?;
        let mut gradients = Gradients::default();
        let (mut forward, mut activations, mut backward) = (0, 0, 0);
        // From the second micro-batch on there are gradients from the start; a third is like it.
        for _ in 0..self.sizes.micro_batches.min(2) {
            let before = meter.current()?;
            meter.reset_peak()?;
            let inputs = self.inputs(unet, self.sizes.batch)?;
            let output = self.predict(unet, &weights, &inputs, recomputed)?;
            forward = self.working.peak(&meter)?.max(forward);
            activations = bytes(meter.current()? - before);
            let loss = catch(|| output.to_kind(Kind::Float).mean(Kind::Float))?;
            drop(output);
            meter.reset_peak()?;
            match self.summing {
                Summing::Here => gradients.add(&loss, &trained)?,
                Summing::InBuckets => backward_each(&loss, trained.tensors(), |_, _| Ok(()))?,
            }
            drop(loss);
            backward = self.working.peak(&meter)?.max(backward);
        }
        Ok(Passes {
            forward,
            activations,
            backward,
            gradients: bytes(meter.current()?),
        })
    }

    /// The pieces of the student that would save something, were they computed again: those first that save most for
    /// the time that it takes.
    pub(crate) fn worthwhile(&self) -> Result<Vec<Piece>, TrainError> {
        let unet = self.architectures.unet();
        let (weights, _) = self.student_weights(Dropout::On)?;
        let inputs = self.inputs(unet, self.sizes.batch)?;
        let noting = Recomputed::none_noting(Meter::of_rehearsal()?);
        let _ = self.predict(unet, &weights, &inputs, &noting)?;
        let places = (self.sizes.side * self.sizes.side) as f64;
        let rate = |piece: &Piece| {
            let kept = noting.kept(piece).unwrap_or(0) as f64;
            kept / piece.multiplications(unet.layout(), places).max(1.0)
        };
        let pieces = unet.pieces().into_iter();
        let mut rated: Vec<(f64, Piece)> = pieces.map(|piece| (rate(&piece), piece)).collect();
        rated.retain(|(rate, _)| *rate > 0.0);
        rated.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(rated.into_iter().map(|(_, piece)| piece).collect())
    }

    /// The weights that a student runs with, and those of them that are trained.
    fn student_weights(&self, dropout: Dropout) -> Result<(Weights, Weights), TrainError> {
        let trained = Weights::hollow(self.architectures.trained(), self.sizes.kind)?;
        let trained = catch(|| trained.trainable())?;
        let Some(set) = self.architectures.adapters() else {
            return Ok((trained.map(Tensor::shallow_clone), trained));
        };
        let base = Weights::hollow(self.architectures.teacher.layout(), self.sizes.kind)?;
        Ok((set.attach(&base, &trained, dropout), trained))
    }

    fn without_graph(
        &self,
        unet: &UNet2DConditionModel,
        weights: &Weights,
        batch: i64,
    ) -> Result<u64, TrainError> {
        let _no_grad = NoGrad::new();
        let meter = Meter::of_rehearsal()?;
        let inputs = self.inputs(unet, batch)?;
        let _ = self.predict(unet, weights, &inputs, &Recomputed::none())?;
        self.working.peak(&meter)
    }

    fn predict(
        &self,
        unet: &UNet2DConditionModel,
        weights: &Weights,
        inputs: &Inputs,
        recomputed: &Recomputed,
    ) -> Result<Tensor, TrainError> {
        let branch = Branch {
            unet,
            weights,
            recomputed,
        };
        let Inputs { z, t, c, w } = inputs;
        Ok(catch(|| branch.predict(z, t, c, w.as_ref()))?)
    }

    fn inputs(&self, unet: &UNet2DConditionModel, batch: i64) -> Result<Inputs, TrainError> {
        let (config, sizes) = (unet.config(), self.sizes);
        let of = |shape: &[i64]| hollow(shape, Kind::Float);
        let [tokens, width] = sizes.prompt;
        let added = match config.text_time {
            None => None,
            Some(text_time) => Some(AddedTensors {
                text_embeds: of(&[batch, (text_time.input_dim - 6 * text_time.time_embed_dim).max(0)])?,
                time_ids: Tensor::zeros([batch, 6], (Kind::Float, Device::Cpu)),
            }),
        };
        Ok(Inputs {
            z: of(&[batch, config.in_channels, sizes.side, sizes.side])?,
            t: Tensor::zeros([batch], (Kind::Int64, Device::Cpu)),
            c: Conditions {
                prompt_embeds: of(&[batch, tokens, config.context_dim().unwrap_or(width)])?,
                added,
            },
            w: match config.time_cond_proj_dim {
                Some(dim) => Some(of(&[batch, dim])?),
                None => None,
            },
        })
    }
}

/// What a UNet is given. Timesteps and sizes are real: their sinusoids are computed where they are.
struct Inputs {
    z: Tensor,
    t: Tensor,
    c: Conditions,
    w: Option<Tensor>,
}

/// The VAE, encoding a batch of pictures, so many of them at once, which come as f32.
pub(crate) fn pictures(
    vae: &AutoencoderKl,
    kind: Kind,
    [batch, at_once]: [i64; 2],
    resolution: i64,
    working: Working,
) -> Result<u64, TrainError> {
    let weights = Weights::hollow(vae.layout(), kind)?;
    let _no_grad = NoGrad::new();
    let meter = Meter::of_rehearsal()?;
    let pixels = hollow(
        &[batch, vae.config().in_channels, resolution, resolution],
        Kind::Float,
    )?;
    catch(|| vae.encode(&weights, &pixels.narrow(0, 0, at_once)))?;
    working.peak(&meter)
}

/// The VAE, decoding one picture's latents of so many a side, in f32.
pub(crate) fn decoding(vae: &AutoencoderKl, side: i64, working: Working) -> Result<u64, TrainError> {
    let weights = Weights::hollow(vae.layout(), Kind::Float)?;
    let _no_grad = NoGrad::new();
    let meter = Meter::of_rehearsal()?;
    let latents = hollow(&[1, vae.config().latent_channels, side, side], Kind::Float)?;
    let _ = catch(|| vae.decode(&weights, &latents))?;
    working.peak(&meter)
}

/// A text encoder, reading so many captions.
pub(crate) fn captions(
    model: &ClipTextModel,
    kind: Kind,
    batch: i64,
    working: Working,
) -> Result<u64, TrainError> {
    let weights = Weights::hollow(model.layout(), kind)?;
    let _no_grad = NoGrad::new();
    let meter = Meter::of_rehearsal()?;
    let ids = hollow(&[batch, model.config().max_position_embeddings], Kind::Int64)?;
    catch(|| model.forward(&weights, &ids))?;
    working.peak(&meter)
}
