//! What the tests against golden values share: where they lie, and how near is near enough.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fewstep_models::weights::read_tensors;
use tch::{Kind, Tensor};

/// A path below tests/fixtures.
pub(crate) fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

/// The tensors of tests/fixtures/golden/NAME.safetensors.
pub(crate) fn golden(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(&fixture("golden").join(format!("{name}.safetensors"))).unwrap()
}

/// Fails unless `got` is `wanted` to within `tolerance` of its largest magnitude.
#[track_caller]
pub(crate) fn assert_near(what: &str, got: &Tensor, wanted: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), wanted.size(), "{what}");
    let wanted = wanted.to_kind(Kind::Double);
    let error = (got.to_kind(Kind::Double) - &wanted)
        .abs()
        .max()
        .double_value(&[]);
    let scale = wanted.abs().max().double_value(&[]);
    assert!(
        error <= tolerance * scale,
        "{what}: off by {error:e} of {scale:e}"
    );
}
