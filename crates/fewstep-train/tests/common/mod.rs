//! What the integration tests share: the fixtures, and options from words.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewstep_models::weights::read_tensors;
use fewstep_train::Config;
use serde_json::Value;
use tch::{Kind, Tensor};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The tensors `in.NAME` and `out.NAME` of a golden file.
pub(crate) fn golden(name: &str) -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
    let all = read_tensors(&fixtures().join("golden").join(name)).unwrap();
    let part = |prefix: &str| {
        all.iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.shallow_clone())))
            .collect()
    };
    (part("in."), part("out."))
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Options, where a switch has the word "".
pub(crate) fn config(flags: &[(&str, &str)]) -> Config {
    // Tiny tensors gain nothing from threads, and tests run beside one another.
    tch::set_num_threads(1);
    let mut config = Config::default();
    for (name, word) in flags {
        let words: Vec<String> = match *word {
            "" => Vec::new(),
            word => vec![word.to_owned()],
        };
        config.set(name, &words).unwrap();
    }
    config.run.device = "cpu".to_owned();
    config
}

/// The largest difference, as a share of the largest number wanted.
pub(crate) fn difference(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    let scale = want.abs().max().double_value(&[]).max(1e-12);
    (got - want).abs().max().double_value(&[]) / scale
}
