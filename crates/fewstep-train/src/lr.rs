//! The six learning-rate schedules, as a factor of the learning rate after warm-up. Pure arithmetic in f64.
//!
//! The formulas are those that the reference takes from diffusers, with its fixed choices: one cosine cycle
//! (half a wave), power 1, and an end of 1e-7 for the polynomial.

use std::f64::consts::PI;

use crate::config::{Config, LrSchedule};

/// Where the polynomial schedule ends.
pub const POLYNOMIAL_END: f64 = 1e-7;

/// A learning rate for every optimiser step of a run.
#[derive(Debug, Clone, Copy)]
pub struct LearningRate {
    /// How it changes.
    pub schedule: LrSchedule,
    /// Its value after warm-up.
    pub base: f64,
    /// Optimiser steps over which it rises from 0.
    pub warmup_steps: u64,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
}

impl LearningRate {
    /// The schedule that the options describe, over a run of `total_steps`.
    pub fn new(config: &Config, total_steps: u64) -> Self {
        LearningRate {
            schedule: config.optimizer.lr_scheduler,
            base: config.learning_rate(),
            warmup_steps: config.warmup_steps(),
            total_steps,
        }
    }

    /// The learning rate of the update that follows `step` finished ones.
    pub fn at(&self, step: u64) -> f64 {
        self.base * self.factor(step)
    }

    /// The factor of the base learning rate after `step` updates.
    pub fn factor(&self, step: u64) -> f64 {
        let (s, n, m) = (step as f64, self.warmup_steps as f64, self.total_steps as f64);
        if self.schedule == LrSchedule::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return s / n.max(1.0);
        }
        // The share of the way from the end of the warm-up to the end of the run.
        let progress = (s - n) / (m - n).max(1.0);
        match self.schedule {
            LrSchedule::Constant | LrSchedule::ConstantWithWarmup => 1.0,
            LrSchedule::Linear => ((m - s) / (m - n).max(1.0)).max(0.0),
            LrSchedule::Cosine => (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            LrSchedule::CosineWithRestarts if progress >= 1.0 => 0.0,
            LrSchedule::CosineWithRestarts => (0.5 * (1.0 + (PI * (progress % 1.0)).cos())).max(0.0),
            LrSchedule::Polynomial if step > self.total_steps => POLYNOMIAL_END / self.base,
            LrSchedule::Polynomial => {
                let remaining = 1.0 - progress;
                ((self.base - POLYNOMIAL_END) * remaining + POLYNOMIAL_END) / self.base
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Every schedule against the reference's own numbers (F14).
    #[test]
    fn golden_schedules() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden/lr.json");
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let word = |case: &Value, key: &str| case[key].to_string().replace('"', "");
        for case in golden.as_array().unwrap() {
            let mut config = Config::default();
            config.set("lr_scheduler", &[word(case, "name")]).unwrap();
            config.set("learning_rate", &[word(case, "lr")]).unwrap();
            let mut schedule = LearningRate::new(&config, case["total"].as_u64().unwrap());
            schedule.warmup_steps = case["warmup"].as_u64().unwrap();
            for (step, want) in case["rates"].as_array().unwrap().iter().enumerate() {
                let (got, want) = (schedule.at(step as u64), want.as_f64().unwrap());
                let ulps = got.to_bits().abs_diff(want.to_bits());
                assert!(
                    ulps <= 1,
                    "{} after {step}: {got} instead of {want}",
                    case["name"]
                );
            }
        }
    }
}
