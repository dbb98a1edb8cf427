//! What the plan of a run holds, and what it makes the run compute again.

use super::*;
use crate::optimizer::AdamW;
use crate::tiny;
use fewstep_models::params::Weights;
use fewstep_models::unet::UNetInput;
use tch::Tensor;

#[test]
fn the_plan_counts_masters_copies_and_states() {
    let bytes = |precision: &str| {
        let config = tiny::config(&[("mixed_precision", precision)]);
        let plan = plan(&config).unwrap();
        let of = |what: &str| plan.holdings.iter().find(|h| h.what == what).map(|h| h.bytes);
        let student = plan.trainable;
        // The student has the teacher's parameters and a projection of 256 to 8.
        let number = if precision == "no" { 4 } else { 2 };
        assert_eq!(of("teacher"), Some(number * (student - 8 * 256)));
        assert_eq!(of("student, f32 masters"), Some(4 * student));
        assert_eq!(of("AdamW's two moments"), Some(8 * student));
        assert_eq!(
            of("target, bf16 copy"),
            (precision == "bf16").then_some(2 * student)
        );
        assert_eq!((plan.steps, plan.samples_per_step), (5, 16));
        plan.held()
    };
    for precision in ["no", "bf16"] {
        assert!(bytes(precision) > 0);
    }
}

#[test]
fn moments_are_counted_as_they_are_kept() {
    let eight_bits = [("use_8bit_adam", "true"), ("lora_rank", "64")];
    for flags in [&[][..], &eight_bits[..1], &eight_bits] {
        let config = config(flags);
        let unet = Folder::open(&config.teacher().unwrap()).unwrap();
        let unet = unet.component("unet").unwrap();
        let architectures = Architectures::read(&unet, &config).unwrap();
        let weights = Weights::random(architectures.trained(), Device::Cpu);
        let state = AdamW::new(&weights, &config.optimizer).unwrap().named_state();
        let bytes = |named: &str| -> usize {
            let tensors = state.iter().filter(|(name, _)| name.starts_with(named));
            tensors
                .map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes())
                .sum()
        };
        let plan = plan(&config).unwrap();
        let planned = plan
            .holdings
            .iter()
            .find(|h| h.what.starts_with("AdamW"))
            .unwrap();
        assert_eq!(planned.bytes, bytes("exp_avg") as u64);
        assert_eq!(planned.bytes < 8 * plan.trainable, !flags.is_empty());
    }
}

#[test]
fn without_a_sweep_an_update_widens_gradients_and_works_beside_them() {
    let update = |eight_bits: &str| {
        let config = config(&[("mixed_precision", "bf16"), ("use_8bit_adam", eight_bits)]);
        let [cpu, cuda] =
            [Device::Cpu, Device::Cuda(0)].map(|device| choose(&config, device, None).unwrap().0);
        assert_eq!(cpu.phases[6].what, "update");
        assert_eq!(cpu.phases[6].bytes, 2 * cpu.trainable);
        (cuda.phases[6].bytes, 4 * cuda.trainable)
    };
    let (bytes, widened) = update("false");
    assert_eq!(bytes, widened);
    // The largest parameter has this many numbers.
    let (bytes, widened) = update("true");
    assert_eq!(
        bytes,
        widened + libtorch_ext::blockwise::working_bytes(16 * 32 * 9)
    );
}

#[test]
fn ranks_sum_gradients_in_buckets_and_share_what_they_may() {
    let of_rank = |flags: &[(&str, &str)], device| {
        let mut config = config(&[&[("mixed_precision", "bf16")], flags].concat());
        config.part = fewstep_data::Part { rank: 0, ranks: 3 };
        config.others_here = 2;
        choose(&config, device, None).unwrap().0
    };
    let held = |plan: &MemoryPlan, what: &str| -> Option<u64> {
        let named = |holding: &&Holding| holding.what == what;
        Some(plan.holdings.iter().find(named)?.bytes)
    };
    let alone = chosen(&[("mixed_precision", "bf16")], None);
    let whole = of_rank(&[], Device::Cpu);
    let all = whole.trainable;
    assert_eq!(held(&alone, BUCKETS), None);
    assert_eq!(held(&whole, BUCKETS), Some(4 * all));
    assert_eq!((alone.gradients, whole.gradients), (2 * all, 0));
    assert_eq!((alone.ranks_here, whole.ranks_here), (1, 3));
    let backward = |plan: &MemoryPlan| plan.phases[5].bytes;
    assert!(backward(&whole) < backward(&alone));
    assert!(backward(&alone) <= backward(&whole) + 2 * all);

    let shares = of_rank(&[("zero", "1")], Device::Cpu);
    let third = held(&shares, "student, f32 masters, a share").unwrap();
    assert!(third > 4 * all / 4 && third < 4 * all / 2, "{third} of {all}");
    assert_eq!(held(&shares, "target, f32 masters, a share"), Some(third));
    assert_eq!(held(&shares, "AdamW's two moments, a share"), Some(2 * third));
    assert_eq!(held(&shares, "student, bf16 copy"), Some(2 * all));
    assert_eq!(whole.held() - shares.held(), 4 * (4 * all - third));
    // What is lacking comes to rank 0 for a checkpoint, on the CPU all of it, else only to begin.
    let to_save = shares.phases.last().unwrap().bytes;
    assert_eq!(to_save, 4 * (4 * all - third) + 4 * all);
    // The other two begin with the masters, and collect nothing.
    let moments = 2 * (4 * all - third);
    assert_eq!(shares.collected_by_first, moments);
    let mut collecting = shares.clone();
    collecting.phases.retain(|phase| phase.what == COLLECTING);
    let peak = collecting.peak();
    assert_eq!(collecting.peak_of_ranks_here(), 3 * peak - 2 * moments);
    assert_eq!(whole.peak_of_ranks_here(), 3 * whole.peak());
    let on_cuda = of_rank(&[("zero", "1")], Device::Cuda(0));
    assert_eq!(
        on_cuda.phases.last().unwrap().bytes,
        2 * (4 * all - third) + 4 * all
    );
    // Whoever has 8-bit moments keeps parts of them.
    let eight_bits = of_rank(&[("zero", "1"), ("use_8bit_adam", "true")], Device::Cpu);
    let moments = held(&eight_bits, "AdamW's two moments, in 8 bits, a share").unwrap();
    assert!(moments < 2 * third);
}

#[test]
fn ranks_of_a_machine_share_its_memory() {
    let mut config = config(&[]);
    let alone = capacity(Device::Cpu, &config);
    config.others_here = 7;
    let shared = capacity(Device::Cpu, &config);
    if let (Some(alone), Some(shared)) = (alone, shared) {
        // Other programs come and go meanwhile.
        assert!(shared < alone / 2, "{shared} {alone}");
    }
}

fn config(flags: &[(&str, &str)]) -> Config {
    let small = [("resolution", "128"), ("train_batch_size", "2")];
    tiny::config(&[&small, flags].concat())
}

fn chosen(flags: &[(&str, &str)], capacity: Option<u64>) -> MemoryPlan {
    choose(&config(flags), Device::Cpu, capacity).unwrap().0
}

#[test]
fn only_as_much_is_computed_again_as_memory_demands() {
    let off = chosen(&[], None);
    let full = chosen(&[("gradient_checkpointing", "full")], None);
    assert_eq!(off.checkpointed.pieces, 0);
    assert_eq!(full.checkpointed.pieces, full.checkpointed.of);
    assert!(full.peak() < off.peak() && full.activations < off.activations / 3);

    let auto = |capacity: u64| chosen(&[("gradient_checkpointing", "auto")], Some(capacity));
    let needs = |plan: &MemoryPlan| (plan.peak() as f64 * (1.0 + MARGIN)).ceil() as u64;
    assert_eq!(auto(needs(&off)).checkpointed.pieces, 0);
    let mut before = 0;
    for share in [0.9, 0.5, 0.1] {
        let between = needs(&full) as f64 + share * (needs(&off) - needs(&full)) as f64;
        let plan = auto(between as u64);
        assert!(plan.fits(), "{share}: {plan:?}");
        assert!(plan.checkpointed.pieces > before, "{share}");
        assert!(plan.peak() < off.peak());
        before = plan.checkpointed.pieces;
    }
    let too_little = auto(needs(&full) / 2);
    assert!(!too_little.fits());
    assert!(too_little.checkpointed.pieces >= before);
    assert!(too_little.peak() <= full.peak() + full.peak() / 100);
}

#[test]
fn a_chosen_set_of_pieces_changes_no_bit_of_a_gradient() {
    tch::set_num_threads(1);
    let config = config(&[("gradient_checkpointing", "auto")]);
    let (off, full) = (
        chosen(&[], None),
        chosen(&[("gradient_checkpointing", "full")], None),
    );
    let middle = ((off.peak() + full.peak()) as f64 / 2.0 * (1.0 + MARGIN)) as u64;
    let (plan, recomputed) = choose(&config, Device::Cpu, Some(middle)).unwrap();
    assert!(plan.checkpointed.pieces > 0 && plan.checkpointed.pieces < plan.checkpointed.of);
    let folder = Folder::open(&config.teacher().unwrap()).unwrap();
    let unet = folder.component("unet").unwrap();
    let unets = student::Unets::from_teacher(&unet, &config, Kind::Float, Device::Cpu).unwrap();
    let gradients = |recomputed: &Recomputed| {
        let network = unets.unet();
        let numbers = |shape: &[i64]| {
            let count: i64 = shape.iter().product();
            (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.37)
                .sin()
                .view(shape)
        };
        let weights = unets.student.compute();
        let input = UNetInput {
            sample: &numbers(&[2, 4, 16, 16]),
            timestep: &Tensor::from_slice(&[19i64, 999]),
            encoder_hidden_states: &numbers(&[2, 7, network.config().context_dim().unwrap()]),
            timestep_cond: None,
            added: None,
        };
        let output = network.forward_recomputing(weights, &input, recomputed);
        let mut gradients = crate::gradients::Gradients::default();
        gradients
            .add(&output.square().mean(Kind::Float), weights)
            .unwrap();
        gradients
    };
    let (plain, again) = (gradients(&Recomputed::none()), gradients(&recomputed));
    assert!(plain.tensors().iter().zip(again.tensors()).all(|(a, b)| a == b));
}

#[test]
fn gradients_of_earlier_micro_batches_are_there_in_all_phases() {
    let (one, two) = (
        chosen(&[], None),
        chosen(&[("gradient_accumulation_steps", "2")], None),
    );
    for (once, twice) in one.phases.iter().zip(&two.phases).take(4) {
        assert_eq!(twice.bytes, once.bytes + two.gradients, "{}", once.what);
    }
    assert!(two.peak() > one.peak());
}

#[test]
fn the_largest_models_are_planned_without_their_memory() {
    // The tiny teacher at a size that no machine has room for.
    let plan = chosen(
        &[("resolution", "8192"), ("train_batch_size", "64")],
        Some(1 << 40),
    );
    assert!(plan.peak() > 1 << 40 && !plan.fits());
    let text = crate::TooMuch::of(&plan, &config(&[])).unwrap().to_string();
    assert!(text.contains("there are 1099.5 GB for it"), "{text}");
    assert!(text.contains("To make it fit"), "{text}");
}

#[test]
fn pictures_are_planned_where_the_run_paints_some() {
    let painting = |flags: &[(&str, &str)]| {
        let plan = plan(&config(flags)).unwrap();
        let phase = plan
            .phases
            .iter()
            .find(|phase| phase.what == "validation pictures");
        phase.map(|phase| phase.bytes)
    };
    let often = ("validation_steps", "1");
    assert_eq!(painting(&[]), None);
    assert_eq!(painting(&[("validation_steps", "0")]), None);
    // In bf16 the VAE's copy in f32 comes on top.
    let (whole, half) = (
        painting(&[often]),
        painting(&[often, ("mixed_precision", "bf16")]),
    );
    assert!(whole > Some(0) && half > whole, "{whole:?} {half:?}");
}
