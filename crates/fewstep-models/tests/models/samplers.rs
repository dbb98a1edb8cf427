//! The samplers of student and teacher against diffusers' schedulers.

use super::common::{assert_near, fixture, golden};
use fewstep_models::schedule::{
    DdimSampler, DdimTimesteps, LcmSampler, LcmTimesteps, LcmWarning, NoiseSchedule, SampleLimit,
    SchedulerConfig, Steps, lcm_scheduler_config,
};
use fewstep_models::weights::read_json;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

fn lcm_config(prediction_type: &str) -> SchedulerConfig {
    let json = json!({"_class_name": "LCMScheduler", "prediction_type": prediction_type});
    SchedulerConfig::from_json(&json).unwrap()
}

/// What a recorded call asks for; `None` where our types cannot ask it.
fn request(json: &Value) -> Option<LcmTimesteps> {
    let steps = match (json["num_inference_steps"].as_i64(), json["timesteps"].as_array()) {
        (Some(steps), None) => Steps::Count(steps),
        (None, Some(list)) => Steps::Custom(list.iter().map(|t| t.as_i64().unwrap()).collect()),
        _ => return None,
    };
    Some(LcmTimesteps {
        steps,
        original_inference_steps: json["original_inference_steps"].as_i64(),
        strength: json["strength"].as_f64().unwrap_or(1.0),
    })
}

#[test]
fn lcm_timesteps_and_refusals_are_diffusers() {
    let records = read_json(&fixture("golden/lcm_timesteps.json"), "golden timesteps").unwrap();
    let (mut granted, mut refused) = (0, 0);
    for record in records.as_array().unwrap() {
        let Some(request) = request(&record["request"]) else {
            assert_eq!(record["error"], true);
            continue;
        };
        let sampler = LcmSampler::new(&lcm_config("epsilon"), &request);
        match record["timesteps"].as_array() {
            None => {
                assert!(sampler.is_err(), "{record}");
                refused += 1;
            }
            Some(wanted) => {
                assert_eq!(
                    json!(sampler.unwrap().timeline().timesteps()),
                    json!(wanted),
                    "{record}"
                );
                granted += 1;
            }
        }
    }
    assert!(granted > 40 && refused > 6, "{granted} {refused}");
}

#[test]
fn seldom_meant_timesteps_are_warned_of() {
    let warnings_of = |timesteps: &[i64], original, strength| {
        let request = LcmTimesteps {
            steps: Steps::Custom(timesteps.to_vec()),
            original_inference_steps: Some(original),
            strength,
        };
        let sampler = LcmSampler::new(&lcm_config("epsilon"), &request).unwrap();
        sampler.warnings().to_vec()
    };
    let warnings = |timesteps: &[i64], strength| warnings_of(timesteps, 2, strength);
    assert_eq!(warnings(&[999, 499], 1.0), []);
    assert_eq!(
        warnings(&[998, 499, 3], 1.0),
        [
            LcmWarning::LateStart {
                first: 998,
                last: 999
            },
            LcmWarning::OffGrid(vec![998, 3]),
            LcmWarning::MoreThanDistilled {
                steps: 3,
                original_inference_steps: 2
            },
        ]
    );
    // What the strength drops is not warned of.
    assert_eq!(warnings(&[998, 499], 0.5), []);
    // A student of 30 solver steps was distilled up to 989, which is where its sampling starts.
    assert_eq!(warnings_of(&[989, 494], 30, 1.0), []);
    let off = LcmWarning::OffGrid(vec![999]);
    assert_eq!(warnings_of(&[999, 494], 30, 1.0), [off]);
}

#[test]
fn chains_of_lcm_steps() {
    for (kind, count) in [("epsilon", 4), ("sample", 4), ("v_prediction", 4), ("epsilon", 1)] {
        let label = format!("lcm-step-{kind}-{count}");
        let golden = golden(&label);
        let sampler = LcmSampler::new(&lcm_config(kind), &LcmTimesteps::count(count)).unwrap();
        let mut sample = golden["in.sample"].shallow_clone();
        for i in 0..count as usize {
            let noise = || golden[&format!("in.noise.{i}")].shallow_clone();
            let step = sampler.step(i, &golden[&format!("in.model_output.{i}")], &sample, noise);
            assert_near(
                &label,
                &step.denoised,
                &golden[&format!("out.denoised.{i}")],
                1e-6,
            );
            assert_near(
                &label,
                &step.prev_sample,
                &golden[&format!("out.prev_sample.{i}")],
                1e-6,
            );
            sample = step.prev_sample;
        }
    }
}

/// diffusers adds noise here, since it still counts the dropped steps; see `LcmTimesteps`.
#[test]
fn the_last_of_shortened_custom_timesteps_is_the_last() {
    let request = LcmTimesteps {
        steps: Steps::Custom(vec![999, 759, 499, 259]),
        original_inference_steps: None,
        strength: 0.5,
    };
    let sampler = LcmSampler::new(&lcm_config("epsilon"), &request).unwrap();
    assert_eq!(sampler.timeline().timesteps(), [499, 259]);
    let x = Tensor::ones([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    let last = sampler.step(1, &x, &x, || panic!("no noise is needed after the last step"));
    assert_eq!(last.prev_sample, last.denoised);
    let noisy = sampler.timeline().start(&x, &x.zeros_like());
    let alpha = NoiseSchedule::new(&lcm_config("epsilon"))
        .unwrap()
        .alphas_cumprod()[499]
        .sqrt();
    assert_eq!(noisy, &x * f64::from(alpha));
}

#[test]
fn strength_must_be_a_share() {
    for strength in [0.0, -0.5, 1.5, f64::NAN] {
        let request = LcmTimesteps {
            strength,
            ..LcmTimesteps::count(1)
        };
        let error = LcmSampler::new(&lcm_config("epsilon"), &request).unwrap_err();
        assert!(error.to_string().contains("the strength is"), "{error}");
    }
    let empty = LcmTimesteps {
        steps: Steps::Custom(Vec::new()),
        ..LcmTimesteps::count(1)
    };
    assert!(LcmSampler::new(&lcm_config("epsilon"), &empty).is_err());
}

#[test]
fn ddim_timesteps() {
    let records = read_json(&fixture("golden/ddim_timesteps.json"), "golden timesteps").unwrap();
    for record in records.as_array().unwrap() {
        let config = SchedulerConfig::from_json(record).unwrap();
        let timesteps = DdimTimesteps::count(record["num_inference_steps"].as_i64().unwrap());
        let sampler = DdimSampler::new(&config, &timesteps).unwrap();
        assert_eq!(
            json!(sampler.timeline().timesteps()),
            record["timesteps"],
            "{record}"
        );
    }
}

#[test]
fn every_number_of_trailing_steps_starts_at_the_end_and_descends() {
    let json = json!({"timestep_spacing": "trailing"});
    let config = SchedulerConfig::from_json(&json).unwrap();
    for steps in 1..=1000 {
        let sampler = DdimSampler::new(&config, &DdimTimesteps::count(steps)).unwrap();
        assert_eq!(sampler.timeline().timesteps().len() as i64, steps);
        assert_eq!(sampler.timeline().timesteps()[0], 999, "{steps}");
        assert!(
            sampler
                .timeline()
                .timesteps()
                .windows(2)
                .all(|pair| pair[1] < pair[0]),
            "{steps}"
        );
    }
}

#[test]
fn chains_of_ddim_steps() {
    let configs = read_json(&fixture("golden/ddim-step.json"), "golden configurations").unwrap();
    for (name, json) in configs.as_object().unwrap() {
        let golden = golden(&format!("ddim-step-{name}"));
        let config = SchedulerConfig::from_json(json).unwrap();
        let sampler = DdimSampler::new(&config, &DdimTimesteps::count(5)).unwrap();
        let mut sample = golden["in.sample"].shallow_clone();
        for i in 0..5 {
            sample = sampler.step(i, &golden[&format!("in.model_output.{i}")], &sample);
            assert_near(name, &sample, &golden[&format!("out.prev_sample.{i}")], 1e-6);
        }
    }
}

#[test]
fn ddim_refuses_timesteps_outside_the_schedule() {
    let config = SchedulerConfig::from_json(&json!({"steps_offset": 1})).unwrap();
    let sampler = |steps| DdimSampler::new(&config, &DdimTimesteps::count(steps));
    let error = sampler(1000).unwrap_err().to_string();
    assert!(error.contains("a timestep of the sampler is 1000"), "{error}");
    assert!(sampler(0).is_err());
    assert!(sampler(1001).is_err());
}

#[test]
fn of_ddim_steps_the_last_are_done_as_the_strength_says() {
    let config = SchedulerConfig::from_json(&json!({"steps_offset": 1})).unwrap();
    let sampler = |steps, strength| DdimSampler::new(&config, &DdimTimesteps { steps, strength });
    let timesteps = |steps, strength| sampler(steps, strength).unwrap().timeline().timesteps().to_vec();
    assert_eq!(timesteps(4, 1.0), [751, 501, 251, 1]);
    assert_eq!(timesteps(4, 0.74), [251, 1]);
    assert_eq!(timesteps(50, 0.02), [1]);
    let error = sampler(4, 0.2).unwrap_err().to_string();
    assert!(
        error.contains("of 4 timesteps a strength of 0.2 leaves none"),
        "{error}"
    );
    for strength in [0.0, 1.01, f64::NAN] {
        let error = sampler(4, strength).unwrap_err().to_string();
        assert!(error.contains("the strength is"), "{error}");
    }
}

#[test]
fn pictures_are_limited_only_where_the_file_says_so() {
    let limit = |json: Value| SchedulerConfig::from_json(&json).unwrap().limit;
    assert_eq!(limit(json!({})), SampleLimit::None);
    let clip = limit(json!({"clip_sample": true, "clip_sample_range": 0.5}));
    let x = Tensor::from_slice(&[-2.0f32, -0.25, 0.25, 4.0]).view([1, 4, 1, 1]);
    let values = |t: Tensor| Vec::<f32>::try_from(t.flatten(0, -1)).unwrap();
    assert_eq!(values(clip.apply(x.shallow_clone())), [-0.5, -0.25, 0.25, 0.5]);
    // The median of the absolute values, between 0.25 and 2, is the divisor, since it lies within [1, 3].
    let dynamic = limit(json!({"thresholding": true, "dynamic_thresholding_ratio": 0.5,
        "sample_max_value": 3.0, "clip_sample": true}));
    let s = 1.125;
    assert_eq!(values(dynamic.apply(x)), [-1.0, -0.25 / s, 0.25 / s, 1.0]);
}

#[test]
fn the_written_configuration_describes_the_run() {
    let configs = read_json(&fixture("golden/schedule.json"), "golden configurations").unwrap();
    for (name, json) in configs.as_object().unwrap() {
        let mut json = json.clone();
        json["prediction_type"] = json!("v_prediction");
        json["clip_sample"] = json!(true);
        let teacher = SchedulerConfig::from_json(&json).unwrap();
        let written = lcm_scheduler_config(&teacher, 30, 12.5).unwrap();
        assert_eq!(written["_class_name"], "LCMScheduler");
        assert_eq!(
            written.get("trained_betas").unwrap().is_array(),
            name == "sigmoid" || name == "trained_betas"
        );
        let student = SchedulerConfig::from_json(&written).unwrap();
        assert_eq!(
            NoiseSchedule::new(&student).unwrap(),
            NoiseSchedule::new(&teacher).unwrap(),
            "{name}"
        );
        assert_eq!(
            (student.original_inference_steps, student.timestep_scaling),
            (30, 12.5)
        );
        assert_eq!(student.limit, SampleLimit::None);
    }
}
