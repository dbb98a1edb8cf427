//! What an update does to all parameters: AdamW, the moving average, and the copies that networks compute with.
//!
//! On the CPU it is one sweep over memory, elsewhere LibTorch's operators over lists. The host reads no number that is
//! on a device.

use libtorch_ext::NoGrad;
use libtorch_ext::blockwise::Changed;
use libtorch_ext::lists::{self, AdamW as Hyper};
use libtorch_ext::moments::Moments;
use libtorch_ext::sweep::{self, Part, Sweep};
use tch::{Device, Tensor};

use crate::ema::Average;
use crate::error::TrainError;
use crate::gradients::Gradients;
use crate::optimizer::AdamW;
use crate::precision::Mastered;

/// How far an update goes.
#[derive(Debug, Clone, Copy)]
pub struct Stride<'a> {
    /// The learning rate.
    pub lr: f64,
    /// What gradients are multiplied with first: an f32 scalar on their device.
    pub factor: &'a Tensor,
    /// Where this f32 scalar on their device is 1, nothing changes, and nobody waits to know.
    pub skip: &'a Tensor,
}

impl AdamW {
    /// One update of the student, whose masters these parameters are, and of its average: of the share of them that this
    /// optimiser has.
    ///
    /// # Errors
    /// What LibTorch refuses: networks of different shapes.
    pub fn step(
        &mut self,
        student: &Mastered,
        average: Option<&Average>,
        gradients: Gradients,
        stride: &Stride,
    ) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        match student.master().device() {
            Device::Cpu => self.sweep(student, average, &gradients, stride),
            _ => self.by_operators(student, average, gradients, stride),
        }
    }

    fn sweep(
        &self,
        student: &Mastered,
        average: Option<&Average>,
        gradients: &Gradients,
        stride: &Stride,
    ) -> Result<(), TrainError> {
        let parts: Vec<Part> = (self.params.iter().zip(&self.places).enumerate())
            .map(|(i, (param, &place))| Part {
                param,
                gradient: &gradients.tensors()[place],
                step: &self.steps[i],
                moments: &self.moments[i],
                copy: student.copy(place),
                average: average.map(|average| sweep::Average {
                    param: &average.target.master().tensors()[place],
                    copy: average.target.copy(place),
                }),
            })
            .collect();
        let sweep = Sweep {
            adamw: self.hyper(stride),
            factor: stride.factor,
            skip: stride.skip,
            average_weight: average.map_or(0.0, Average::weight),
        };
        Ok(sweep::update(&parts, &sweep)?)
    }

    /// The same where there is no sweep.
    fn by_operators(
        &self,
        student: &Mastered,
        average: Option<&Average>,
        gradients: Gradients,
        stride: &Stride,
    ) -> Result<(), TrainError> {
        let gradients = gradients.at(&self.places).widened()?;
        gradients.scale(stride.factor)?;
        let hyper = self.hyper(stride);
        let mut full = [const { Vec::new() }; 5];
        let parts = self.params.iter().zip(gradients.tensors());
        for ((param, gradient), (moments, step)) in parts.zip(self.moments.iter().zip(&self.steps)) {
            match moments {
                Moments::Full { exp_avg, exp_avg_sq } => {
                    let part = [param, gradient, exp_avg, exp_avg_sq, step];
                    for (list, tensor) in full.iter_mut().zip(part) {
                        list.push(tensor.shallow_clone());
                    }
                }
                Moments::Blocks { exp_avg, exp_avg_sq } => {
                    let changed = Changed {
                        param,
                        exp_avg,
                        exp_avg_sq,
                        step,
                    };
                    self.maps.update(&changed, gradient, hyper, stride.skip)?;
                }
            }
        }
        let [params, gradients, exp_avgs, exp_avg_sqs, steps] = &full;
        if !params.is_empty() {
            lists::fused_adamw(
                params,
                gradients,
                exp_avgs,
                exp_avg_sqs,
                steps,
                hyper,
                Some(stride.skip),
            )?;
        }
        student.refresh()?;
        match average {
            Some(average) => average.update(student, &self.places, stride.skip),
            None => Ok(()),
        }
    }

    fn hyper(&self, stride: &Stride) -> Hyper {
        Hyper {
            lr: stride.lr,
            ..self.hyper
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use fewstep_models::params::{Init, Layout, Weights};
    use tch::Kind;

    /// Weights of which one is large enough for 8 bits.
    fn weights() -> Weights {
        let shapes = [&[67, 77][..], &[5], &[4, 8]];
        let (_, layout) = Layout::build(|root| {
            for (i, shape) in shapes.iter().enumerate() {
                root.sub(i).param("weight", shape, Init::Zeros);
            }
        });
        let tensors = shapes.iter().zip(1..).map(|(shape, seed)| numbers(shape, seed));
        Weights::new(layout, tensors.collect())
    }

    fn numbers(shape: &[i64], seed: i64) -> Tensor {
        let count = shape.iter().product::<i64>();
        let x = Tensor::arange(count, (Kind::Float, Device::Cpu)) * (seed as f64);
        x.sin().view(shape)
    }

    /// A student with its target and its optimiser.
    struct Trio {
        student: Mastered,
        target: Mastered,
        optimizer: AdamW,
    }

    impl Trio {
        fn new(kind: Kind, eight_bits: bool) -> Self {
            let mut config = Config::default();
            config.optimizer.use_8bit_adam = eight_bits;
            let student = Mastered::trainable(weights(), kind);
            Trio {
                optimizer: AdamW::new(student.master(), &config.optimizer).unwrap(),
                target: Mastered::frozen(weights(), kind),
                student,
            }
        }

        fn gradients(&self, step: i64) -> Gradients {
            let weights = self.student.compute();
            let slopes = weights.tensors().iter().zip(3 * step..);
            let loss = slopes.map(|(t, seed)| (t * numbers(&t.size(), seed + 1)).sum(Kind::Float));
            let mut gradients = Gradients::default();
            let loss = loss.reduce(|a, b| a + b).unwrap();
            gradients.add(&loss, weights).unwrap();
            gradients
        }

        /// The third of four steps is skipped.
        fn stepped(&self, step: i64, with_sweep: bool) {
            let stride = Stride {
                lr: 1e-2,
                factor: &Tensor::from(0.25f32),
                skip: &Tensor::from(if step == 2 { 1f32 } else { 0.0 }),
            };
            let average = Average {
                target: &self.target,
                mu: 0.9,
            };
            let gradients = self.gradients(step);
            let _no_grad = NoGrad::new();
            let (student, average) = (&self.student, Some(&average));
            match with_sweep {
                true => self.optimizer.sweep(student, average, &gradients, &stride),
                false => self.optimizer.by_operators(student, average, gradients, &stride),
            }
            .unwrap();
        }

        fn tensors(&self) -> Vec<(String, Tensor)> {
            let weights = [
                self.student.master(),
                self.student.compute(),
                self.target.master(),
                self.target.compute(),
            ];
            let named = weights.into_iter().flat_map(Weights::named);
            named
                .map(|(name, tensor)| (name.to_owned(), tensor.detach().copy()))
                .chain(self.optimizer.named_state())
                .map(|(name, tensor)| (name, tensor.copy()))
                .collect()
        }
    }

    /// CUDA has the operators, which no machine without it runs otherwise.
    #[test]
    fn operators_do_what_the_sweep_does() {
        tch::set_num_threads(1);
        for (kind, eight_bits) in [Kind::Float, Kind::BFloat16]
            .into_iter()
            .flat_map(|kind| [(kind, false), (kind, true)])
        {
            let ways = [true, false].map(|sweep| (Trio::new(kind, eight_bits), sweep));
            for step in 0..4 {
                let [swept, by_operators] = ways.each_ref().map(|(trio, with_sweep)| {
                    let before = trio.tensors();
                    trio.stepped(step, *with_sweep);
                    let after = trio.tensors();
                    assert_eq!(before == after, step == 2, "{kind:?}, {eight_bits}");
                    after
                });
                for ((name, a), (_, b)) in swept.iter().zip(&by_operators) {
                    // One unit in the last place: of numbers up to 1, and of those numbers in bf16.
                    let limit = if a.kind() == Kind::BFloat16 { 4e-3 } else { 1.2e-7 };
                    let [a, b] = [a, b].map(|t| t.to_kind(Kind::Double));
                    let off = (a - b).abs().max().double_value(&[]);
                    assert!(off <= limit, "{kind:?}, {eight_bits}: {name} is off by {off:e}");
                }
            }
        }
    }
}
