//! The sweep against LibTorch's own operators, and 8-bit moments in a sweep against the same by operators.

#![allow(clippy::unwrap_used)]

use libtorch_ext::Meter;
use libtorch_ext::blockwise::{self, Changed, Maps};
use libtorch_ext::lists::{self, AdamW};
use libtorch_ext::moments::{Form, Moments};
use libtorch_ext::sweep::{self, Average, Part, Sweep};
use tch::{Device, Kind, Tensor};

const ADAMW: AdamW = AdamW {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    weight_decay: 0.01,
    eps: 1e-8,
};
/// Whole registers, so that LibTorch does none of the numbers one by one; more than a span, and less than a tile.
const SIZES: [i64; 3] = [70_016, 4096 + 64, 32];

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn scalar(value: f64) -> Tensor {
    Tensor::full([] as [i64; 0], value, (Kind::Float, Device::Cpu))
}

/// Numbers between -1 and 1 of many magnitudes, the same for the same seed.
fn numbers(seed: i64, count: i64) -> Tensor {
    let x = Tensor::arange(count, (Kind::Double, Device::Cpu)) + (seed * 1000) as f64;
    (((&x * 12.9898).sin() * 43758.5453).frac() * (x * 0.37).sin().pow_tensor_scalar(4)).to_kind(Kind::Float)
}

fn lists_of(seed: i64) -> Vec<Tensor> {
    SIZES
        .iter()
        .zip(seed..)
        .map(|(&n, seed)| numbers(seed, n))
        .collect()
}

fn copies(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::copy).collect()
}

fn same(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.kind(), b.kind(), "{what}");
    let different = a.ne_tensor(b).sum(Kind::Int64).int64_value(&[]);
    assert_eq!(
        different,
        0,
        "{different} of {} numbers of {what} differ",
        a.numel()
    );
}

/// Whether LibTorch fuses a product with a sum in one rounding, as the sweep does everywhere: its plain kernels round twice.
fn libtorch_fuses() -> bool {
    #[cfg(target_arch = "x86_64")]
    let fuses = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let fuses = false;
    fuses
}

/// What a run holds of its parameters.
struct State {
    params: Vec<Tensor>,
    moments: Vec<Moments>,
    steps: Vec<Tensor>,
    copies: Vec<Tensor>,
    averages: Vec<Tensor>,
    average_copies: Vec<Tensor>,
}

impl State {
    fn new(kind: Kind, form: Form) -> Self {
        let params = lists_of(0);
        State {
            moments: params.iter().map(|t| Moments::zeros(t, form)).collect(),
            steps: params.iter().map(|_| scalar(0.0)).collect(),
            copies: params.iter().map(|t| t.to_kind(kind)).collect(),
            averages: copies(&params),
            average_copies: params.iter().map(|t| t.to_kind(kind)).collect(),
            params,
        }
    }

    fn sweep(&self, gradients: &[Tensor], factor: f64, skip: f64) {
        let copied = |list: &'static str, i: usize| {
            let list: &Vec<Tensor> = match list {
                "copies" => &self.copies,
                _ => &self.average_copies,
            };
            (list[i].kind() != Kind::Float).then(|| list[i].shallow_clone())
        };
        let held: Vec<_> = (0..SIZES.len())
            .map(|i| (copied("copies", i), copied("averages", i)))
            .collect();
        let parts: Vec<Part> = (0..SIZES.len())
            .map(|i| Part {
                param: &self.params[i],
                gradient: &gradients[i],
                step: &self.steps[i],
                moments: &self.moments[i],
                copy: held[i].0.as_ref(),
                average: Some(Average {
                    param: &self.averages[i],
                    copy: held[i].1.as_ref(),
                }),
            })
            .collect();
        let sweep = Sweep {
            adamw: ADAMW,
            factor: &scalar(factor),
            skip: &scalar(skip),
            average_weight: 0.05,
        };
        sweep::update(&parts, &sweep).unwrap();
    }

    fn tensors(&self) -> Vec<Tensor> {
        let lists = [
            &self.params,
            &self.steps,
            &self.copies,
            &self.averages,
            &self.average_copies,
        ];
        let moments = self.moments.iter().flat_map(Moments::named);
        lists
            .into_iter()
            .flatten()
            .chain(moments.map(|(_, tensor)| tensor))
            .map(Tensor::copy)
            .collect()
    }
}

#[test]
fn a_sweep_is_libtorchs_operators_one_after_the_other() {
    if !libtorch_fuses() {
        return;
    }
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let state = State::new(kind, Form::Full);
        let (params, averages) = (copies(&state.params), copies(&state.averages));
        let moments: Vec<_> = params.iter().map(|t| (t.zeros_like(), t.zeros_like())).collect();
        let exp_avgs: Vec<Tensor> = moments.iter().map(|m| m.0.shallow_clone()).collect();
        let exp_avg_sqs: Vec<Tensor> = moments.iter().map(|m| m.1.shallow_clone()).collect();
        let steps: Vec<Tensor> = params.iter().map(|_| scalar(0.0)).collect();
        for step in 1..4 {
            let gradients: Vec<Tensor> = lists_of(10 * step).iter().map(|t| t.to_kind(kind)).collect();
            let factor = if step == 2 { 0.37 } else { 1.0 };
            state.sweep(&gradients, factor, 0.0);

            let scaled: Vec<Tensor> = gradients
                .iter()
                .map(|t| t.to_kind(Kind::Float) * scalar(factor))
                .collect();
            lists::fused_adamw(&params, &scaled, &exp_avgs, &exp_avg_sqs, &steps, ADAMW, None).unwrap();
            lists::lerp_by(&averages, &params, &scalar(0.05)).unwrap();
        }
        for (i, moments) in state.moments.iter().enumerate() {
            let Moments::Full { exp_avg, exp_avg_sq } = moments else {
                panic!("f32 was asked for");
            };
            same(&state.steps[i], &steps[i], "the steps");
            same(exp_avg, &exp_avgs[i], "the first moment");
            same(exp_avg_sq, &exp_avg_sqs[i], "the second moment");
            same(&state.params[i], &params[i], "the weights");
            same(&state.averages[i], &averages[i], "the averages");
            if kind != Kind::Float {
                same(&state.copies[i], &params[i].to_kind(kind), "the copies");
                same(
                    &state.average_copies[i],
                    &averages[i].to_kind(kind),
                    "the averages' copies",
                );
            }
        }
    }
}

/// What sweeps make of everything, as one number.
fn digest() -> u64 {
    let mut digest = 0u64;
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for form in [Form::Full, Form::Blocks] {
            let state = State::new(kind, form);
            for step in 1..4 {
                let gradients: Vec<Tensor> = lists_of(10 * step).iter().map(|t| t.to_kind(kind)).collect();
                let norm = sweep::norm(&gradients).unwrap().double_value(&[]);
                state.sweep(&gradients, 1.0 / norm, 0.0);
            }
            for tensor in state.tensors() {
                let wide: Vec<f64> = tensor.to_kind(Kind::Double).flatten(0, -1).try_into().unwrap();
                for number in wide {
                    digest = (digest ^ number.to_bits())
                        .wrapping_mul(0x100_0000_01b3)
                        .rotate_left(5);
                }
            }
        }
    }
    digest
}

/// LibTorch reads the variable once, so that each set of instructions needs a process of its own: this very test, told
/// to print what it found.
#[test]
fn every_set_of_instructions_gives_the_same_bits() {
    const CHILD: &str = "FEWSTEP_TEST_DIGEST";
    if std::env::var_os(CHILD).is_some() {
        println!("digest {}", digest());
        return;
    }
    let wanted = format!("digest {}", digest());
    for capability in ["default", "avx2", "avx512"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["every_set_of_instructions", "--nocapture"])
            .env(CHILD, "1")
            .env("ATEN_CPU_CAPABILITY", capability)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&wanted), "{capability}: {wanted}, but {text}");
    }
}

#[test]
fn a_skipped_sweep_changes_nothing() {
    for form in [Form::Full, Form::Blocks] {
        let state = State::new(Kind::BFloat16, form);
        state.sweep(&lists_of(1), 1.0, 0.0);
        let before = state.tensors();
        let broken: Vec<Tensor> = lists_of(2).iter().map(|t| t * f64::NAN).collect();
        state.sweep(&broken, f64::NAN, 1.0);
        for (before, after) in before.iter().zip(state.tensors()) {
            same(&after, before, "what was there");
        }
    }
}

#[test]
fn eight_bits_by_operators_are_those_of_the_sweep() {
    if !libtorch_fuses() {
        return;
    }
    let (swept, by_operators) = (
        State::new(Kind::BFloat16, Form::Blocks),
        State::new(Kind::BFloat16, Form::Blocks),
    );
    let maps = Maps::new(Device::Cpu).unwrap();
    for step in 1..5 {
        let gradients = lists_of(10 * step);
        let skip = scalar(if step == 3 { 1.0 } else { 0.0 });
        swept.sweep(&gradients, 1.0, skip.double_value(&[]));
        for (i, moments) in by_operators.moments.iter().enumerate() {
            let Moments::Blocks { exp_avg, exp_avg_sq } = moments else {
                panic!("8 bits were asked for");
            };
            let changed = Changed {
                param: &by_operators.params[i],
                exp_avg,
                exp_avg_sq,
                step: &by_operators.steps[i],
            };
            maps.update(&changed, &gradients[i], ADAMW, &skip).unwrap();
        }
        for (i, (a, b)) in swept.moments.iter().zip(&by_operators.moments).enumerate() {
            let (
                Moments::Blocks {
                    exp_avg: a,
                    exp_avg_sq: c,
                },
                Moments::Blocks {
                    exp_avg: b,
                    exp_avg_sq: d,
                },
            ) = (a, b)
            else {
                panic!("8 bits were asked for");
            };
            for (a, b) in [(a, b), (c, d)] {
                same(&a.codes, &b.codes, "the codes");
                same(&a.absmax, &b.absmax, "the scales");
            }
            same(&swept.steps[i], &by_operators.steps[i], "the steps");
            // LibTorch's square root on the CPU is off by one in the last place now and then.
            let off = (&swept.params[i] - &by_operators.params[i])
                .abs()
                .max()
                .double_value(&[]);
            assert!(off <= 2e-7, "the weights are off by {off:e}");
        }
    }
}

#[test]
fn what_operators_take_for_8_bits_is_known() {
    let maps = Maps::new(Device::Cpu).unwrap();
    // Less than a slice, and more than one.
    for numbers in [1 << 16, 5 << 20] {
        let (param, gradient) = (Tensor::ones([numbers], CPU), Tensor::ones([numbers], CPU));
        let Moments::Blocks { exp_avg, exp_avg_sq } = Moments::zeros(&param, Form::Blocks) else {
            panic!("8 bits were asked for");
        };
        let changed = Changed {
            param: &param,
            exp_avg: &exp_avg,
            exp_avg_sq: &exp_avg_sq,
            step: &scalar(0.0),
        };
        let meter = Meter::start(Device::Cpu).unwrap();
        maps.update(&changed, &gradient, ADAMW, &scalar(0.0)).unwrap();
        let taken = meter.peak().unwrap() as f64 / blockwise::working_bytes(numbers as u64) as f64;
        assert!(taken > 0.9 && taken < 1.01, "{numbers}: {taken}");
    }
}

#[test]
fn the_norm_is_that_of_all_numbers() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        let list: Vec<Tensor> = lists_of(3).iter().map(|t| t.to_kind(kind)).collect();
        let squares: f64 = list
            .iter()
            .map(|t| {
                t.to_kind(Kind::Double)
                    .square()
                    .sum(Kind::Double)
                    .double_value(&[])
            })
            .sum();
        let norm = sweep::norm(&list).unwrap().double_value(&[]);
        assert!(
            (norm / squares.sqrt() - 1.0).abs() < 1e-6,
            "{norm} {}",
            squares.sqrt()
        );
    }
    let broken = [numbers(0, 100), scalar(f64::INFINITY)];
    assert!(!sweep::norm(&broken).unwrap().double_value(&[]).is_finite());
}

#[test]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let (param, gradient) = (numbers(0, 6000), numbers(1, 6000));
    let moments = Moments::zeros(&param, Form::Full);
    let update = |param: &Tensor, gradient: &Tensor, step: &Tensor| {
        let part = Part {
            param,
            gradient,
            step,
            moments: &moments,
            copy: None,
            average: None,
        };
        let sweep = Sweep {
            adamw: ADAMW,
            factor: &scalar(1.0),
            skip: &scalar(0.0),
            average_weight: 0.0,
        };
        sweep::update(&[part], &sweep).map_err(|error| error.to_string())
    };
    let step = scalar(0.0);
    let short = update(&param, &gradient.narrow(0, 0, 5999), &step).unwrap_err();
    assert!(
        short.contains("a gradient has 5999 numbers, but 6000 are wanted"),
        "{short}"
    );
    let wide = update(&param, &gradient.to_kind(Kind::Double), &step).unwrap_err();
    assert!(wide.contains("a gradient is Double"), "{wide}");
    let strided = update(&param.view([60, 100]).transpose(0, 1), &gradient, &step).unwrap_err();
    assert!(strided.contains("a weight must be contiguous"), "{strided}");
    assert_eq!(step.double_value(&[]), 0.0);
}
