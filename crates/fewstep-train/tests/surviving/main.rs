//! Runs that meet trouble and go on, or end with a sentence. One binary, since each links LibTorch anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod not_finite;
