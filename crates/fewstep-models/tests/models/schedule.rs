//! The noise schedule, its tables and the solver's arithmetic against the reference's golden values.

use super::common::{assert_near, fixture, golden};
use fewstep_models::schedule::{
    DdimSolver, NoiseSchedule, PredictionType, SchedulerConfig, Tables, boundary_scalings,
    boundary_scalings_at, extrapolate, guidance_embedding, guide,
};
use fewstep_models::weights::read_json;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn configs() -> Value {
    read_json(&fixture("golden/schedule.json"), "golden configurations").unwrap()
}

fn config(name: &str) -> SchedulerConfig {
    SchedulerConfig::from_json(&configs()[name]).unwrap()
}

fn schedule(name: &str) -> NoiseSchedule {
    NoiseSchedule::new(&config(name)).unwrap()
}

/// Zero-SNR schedules say nothing about epsilon, the default, so they are read as a velocity model's.
fn schedule_of(mut json: Value) -> NoiseSchedule {
    json["prediction_type"] = json!("v_prediction");
    NoiseSchedule::new(&SchedulerConfig::from_json(&json).unwrap()).unwrap()
}

fn floats(t: &Tensor) -> Vec<f32> {
    Vec::try_from(t.flatten(0, -1)).unwrap()
}

fn ints(t: &Tensor) -> Vec<i64> {
    Vec::try_from(t).unwrap()
}

/// Fails with the first timestep at which a table is not as it should be.
#[track_caller]
fn assert_table(what: &str, got: &[f32], wanted: &[f32], near: impl Fn(f32, f32) -> bool) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let wrong = got
        .iter()
        .zip(wanted)
        .position(|(&got, &wanted)| !near(got, wanted));
    if let Some(t) = wrong {
        panic!("{what}[{t}] is {:e}, wanted {:e}", got[t], wanted[t]);
    }
}

/// Equal, or neighbours among the f32 numbers: LibTorch's vectorised root is not always the nearest one.
fn within_1_ulp(a: f32, b: f32) -> bool {
    a.to_bits().abs_diff(b.to_bits()) <= 1
}

#[test]
fn alphas_cumprod_are_the_references_to_the_bit() {
    let golden = golden("schedule");
    let configs = configs();
    let all = configs.as_object().unwrap();
    let plain = |(_, json): &(&String, &Value)| json["rescale_betas_zero_snr"].is_null();
    assert_eq!(all.iter().filter(plain).count(), 6);
    for (name, json) in all.iter().filter(plain) {
        let wanted = floats(&golden[&format!("out.alphas_cumprod.{name}")]);
        assert_table(
            name,
            schedule_of(json.clone()).alphas_cumprod(),
            &wanted,
            |a, b| a == b,
        );
    }
}

#[test]
fn zero_snr_schedules_end_without_signal() {
    let golden = golden("schedule");
    for name in ["zero_snr", "zero_snr_linear"] {
        let schedule = schedule_of(configs()[name].clone());
        let wanted = floats(&golden[&format!("out.alphas_cumprod.{name}")]);
        // LibTorch's roots differ by 1 ulp between processors, and differences to the last root carry that on.
        let near = |got: f32, wanted: f32| (got - wanted).abs() <= (2e-6 * wanted).max(1e-9);
        assert_table(name, schedule.alphas_cumprod(), &wanted, near);
        assert_eq!(schedule.alphas_cumprod().last(), Some(&0.0), "{name}");
    }
}

#[test]
fn roots_of_the_schedule() {
    let golden = golden("schedule");
    let tables = Tables::new(&schedule("scaled_linear"), Device::Cpu);
    let t = Tensor::arange(1000, (Kind::Int64, Device::Cpu));
    assert_eq!(tables.alpha(&t).size(), [1000, 1, 1, 1]);
    assert_table(
        "alpha",
        &floats(&tables.alpha(&t)),
        &floats(&golden["out.alpha"]),
        within_1_ulp,
    );
    assert_table(
        "sigma",
        &floats(&tables.sigma(&t)),
        &floats(&golden["out.sigma"]),
        within_1_ulp,
    );
}

#[test]
fn solver_tables() {
    let golden = golden("schedule");
    let schedule = schedule("scaled_linear");
    for n in [50, 30, 100, 7] {
        let solver = DdimSolver::new(&schedule, n, Device::Cpu).unwrap();
        let index = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        let start = ints(&golden[&format!("out.ddim_{n}.timesteps")]);
        assert_eq!(solver.timestep_list(), start);
        assert_eq!(ints(&solver.timesteps(&index)), start);
        let end = solver.prev_timesteps(&index);
        assert_eq!(ints(&end), ints(&golden[&format!("out.ddim_{n}.end_timesteps")]));
        let at_boundary = ints(
            &solver
                .ends_at_boundary(&index)
                .flatten(0, -1)
                .to_kind(Kind::Int64),
        );
        assert_eq!(at_boundary.iter().sum::<i64>(), 1);
        assert_eq!(at_boundary[0], 1);
        // A step of a picture of ones without noise shows the table of square roots.
        let one = Tensor::ones([n, 1, 1, 1], (Kind::Float, Device::Cpu));
        let prev = &golden[&format!("out.ddim_{n}.alphas_cumprod_prev")];
        let (picture, noise) = (
            solver.step(&one, &one.zeros_like(), &index),
            solver.step(&one.zeros_like(), &one, &index),
        );
        let roots = |f: fn(f32) -> f32| -> Vec<f32> { floats(prev).into_iter().map(f).collect() };
        assert_eq!(floats(&picture), roots(f32::sqrt), "{n}");
        assert_eq!(floats(&noise), roots(|abar| (1.0 - abar).sqrt()), "{n}");
    }
}

#[test]
fn boundary_scalings_on_tensors_and_on_the_host() {
    let golden = golden("schedule");
    let t = &golden["in.boundary_t"];
    for scaling in [1.0, 10.0, 20.0] {
        let (c_skip, c_out) = boundary_scalings(t, scaling);
        assert_eq!(c_skip.size(), [t.size()[0], 1, 1, 1]);
        let pairs = [(c_skip, "c_skip"), (c_out, "c_out")];
        for (which, (got, name)) in pairs.iter().enumerate() {
            let wanted = floats(&golden[&format!("out.boundary_{scaling}.{name}")]);
            for ((got, wanted), &t) in floats(got).iter().zip(&wanted).zip(&ints(t)) {
                assert!(
                    (got - wanted).abs() <= 2e-7 * wanted.abs(),
                    "{name} {scaling} {t}"
                );
                let (host_skip, host_out) = boundary_scalings_at(t, scaling);
                assert_eq!([host_skip, host_out][which], *got, "{name} {scaling} {t}");
            }
        }
    }
    assert_eq!(boundary_scalings_at(0, 10.0), (1.0, 0.0));
}

#[test]
fn guidance_embeddings_follow_the_references_operations() {
    let golden = golden("schedule");
    for dim in [256, 32, 33] {
        let got = guidance_embedding(&golden["in.w"], dim);
        let name = format!("out.guidance_embedding_{dim}");
        assert_near(&name, &got, &golden[&name], 1e-6);
        assert_near(&name, &got, &golden[&format!("{name}.f64")], 1e-3);
    }
    // The smallest embeddings have no second frequency to space the first from.
    let w = Tensor::from_slice(&[0.001f32]);
    let smallest = floats(&guidance_embedding(&w, 2));
    assert!((smallest[0] - 1f32.sin()).abs() < 1e-6 && (smallest[1] - 1f32.cos()).abs() < 1e-6);
}

#[test]
fn parameterisations() {
    let golden = golden("maths");
    let [o, z, t] = ["in.output", "in.z", "in.t"].map(|name| &golden[name]);
    for (kind, name) in [
        (PredictionType::Epsilon, "epsilon"),
        (PredictionType::Sample, "sample"),
        (PredictionType::VPrediction, "v_prediction"),
    ] {
        let config = SchedulerConfig {
            prediction_type: kind,
            ..config("scaled_linear")
        };
        let tables = Tables::new(&NoiseSchedule::new(&config).unwrap(), Device::Cpu);
        assert_near(
            name,
            &tables.x0(o, t, z),
            &golden[&format!("out.x0.{name}")],
            1e-6,
        );
        assert_near(
            name,
            &tables.eps(o, t, z),
            &golden[&format!("out.eps.{name}")],
            1e-6,
        );
        // Picture and noise make up the latents again, and do so from 16-bit outputs in f32.
        let (x0, eps) = (tables.x0(o, t, z), tables.eps(o, t, z));
        assert_near(name, &tables.add_noise(&x0, &eps, t), z, 2e-5);
        let half = tables.x0(&o.to_kind(Kind::BFloat16), t, &z.to_kind(Kind::BFloat16));
        assert_eq!(half.kind(), Kind::Float);
    }
    let tables = Tables::new(&schedule("scaled_linear"), Device::Cpu);
    let noisy = tables.add_noise(&golden["in.latents"], &golden["in.noise"], t);
    assert_near("add_noise", &noisy, &golden["out.add_noise"], 1e-6);
}

#[test]
fn noise_is_added_in_f32_to_16_bit_latents() {
    let golden = golden("maths");
    let tables = Tables::new(&schedule("scaled_linear"), Device::Cpu);
    let (zeros, ones) = (golden["in.noise"].zeros_like(), golden["in.noise"].ones_like());
    let t = &golden["in.t"];
    for kind in [Kind::BFloat16, Kind::Half] {
        let noisy = tables.add_noise(&zeros.to_kind(kind), &ones.to_kind(kind), t);
        assert_eq!(noisy.kind(), Kind::Float);
        let sigma = tables.sigma(t).expand_as(&noisy);
        assert_eq!(floats(&noisy), floats(&sigma), "{kind:?}");
    }
}

#[test]
fn guidance_and_the_solvers_step() {
    let golden = golden("maths");
    let w = golden["in.w"].view([-1, 1, 1, 1]);
    let mix = |name: &str| {
        let (cond, uncond) = (
            &golden[&format!("in.{name}_cond")],
            &golden[&format!("in.{name}_uncond")],
        );
        let mixed = extrapolate(cond, uncond, &w);
        assert_near(name, &mixed, &golden[&format!("out.cfg.{name}")], 1e-6);
        // The paper's w is the pipelines' guidance scale less one.
        let guided = guide(cond, uncond, 4.0);
        assert_near(
            name,
            &guided,
            &extrapolate(cond, uncond, &(w.ones_like() * 3.0)),
            1e-6,
        );
        mixed
    };
    let (x0, eps) = (mix("x0"), mix("eps"));
    let solver = DdimSolver::new(&schedule("scaled_linear"), 50, Device::Cpu).unwrap();
    let index = &golden["in.index"];
    assert_near(
        "x_prev",
        &solver.step(&x0, &eps, index),
        &golden["out.x_prev"],
        1e-6,
    );

    let (c_skip, c_out) = boundary_scalings(&solver.prev_timesteps(index), 10.0);
    let f = c_skip * &golden["in.z"] + c_out * &golden["in.latents"];
    assert_near("f", &f, &golden["out.f"], 1e-6);
    assert_eq!(f.get(0), golden["in.z"].get(0), "the identity at the boundary");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |json: Value| {
        let config = SchedulerConfig::from_json(&json);
        let error = config.and_then(|config| NoiseSchedule::new(&config).map(|_| ()));
        error.unwrap_err().to_string()
    };
    let zero_snr = json!({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "rescale_betas_zero_snr": true});
    assert!(refused(zero_snr).contains("no signal left at timestep 999"));
    let one_timestep = json!({"num_train_timesteps": 1, "rescale_betas_zero_snr": true});
    assert!(refused(one_timestep).contains("needs a signal that falls"));
    assert!(refused(json!({"beta_schedule": "laplace"})).contains("`beta_schedule` is \"laplace\""));
    assert!(refused(json!({"prediction_type": "flow"})).contains("`prediction_type` is \"flow\""));
    assert!(refused(json!({"beta_start": "x"})).contains("`beta_start` is \"x\""));
    assert!(refused(json!({"trained_betas": [0.1, 0.2]})).contains("holds 2 numbers"));
    assert!(refused(json!({"beta_start": 0.0})).contains("beta[0] of the noise schedule is 0"));
    assert!(refused(json!({"beta_end": 2.0})).contains("at most 1"));
    assert!(refused(json!({"num_train_timesteps": 0})).contains("must be from 1 to 1000000"));
    assert!(refused(json!({"_class_name": "FlowMatchEulerDiscreteScheduler"})).contains("`FlowMatch"));
    assert!(refused(json!([])).contains("not a JSON object"));
    assert!(refused(json!({"timestep_scaling": 0.0})).contains("`timestep_scaling` is 0.0"));
    assert!(refused(json!({"variance_type": "learned_range"})).contains("`variance_type`"));
    let schedule = schedule("scaled_linear");
    for n in [0, -1, 1001] {
        assert!(
            DdimSolver::new(&schedule, n, Device::Cpu).is_err(),
            "{n} solver steps"
        );
    }
}

#[test]
fn a_file_with_pythons_infinity_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
        "a note": "Infinity \"NaN\"", "beta_schedule": "scaled_linear", "x": NaN}"#;
    std::fs::write(&path, text).unwrap();
    let config = SchedulerConfig::load(folder.path()).unwrap();
    assert_eq!(config.num_train_timesteps, 1000);
    std::fs::write(&path, r#"{"beta_schedule": "exotic"}"#).unwrap();
    let error = SchedulerConfig::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("scheduler_config.json") && error.contains("exotic"),
        "{error}"
    );
    std::fs::write(&path, "{").unwrap();
    assert!(
        SchedulerConfig::load(folder.path())
            .unwrap_err()
            .to_string()
            .contains("not valid JSON")
    );
    std::fs::remove_file(&path).unwrap();
    assert!(
        SchedulerConfig::load(folder.path())
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
}
