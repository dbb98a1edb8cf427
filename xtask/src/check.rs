//! What a reviewer's machine can find without running the program: cheapest first, none needs the internet.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{licences, run, setup};

/// Runs every check, and stops at the first that fails.
pub(crate) fn check() -> Result<()> {
    run::command("cargo", &["fmt", "--all", "--check"])?;
    // The fuzz targets are a workspace of their own.
    run::command("cargo", &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    spelling()?;
    licences::check()?;
    setup::ensure()?;
    run::command(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    // rustdoc takes its lints from the environment only.
    let doc = [
        "doc",
        "--workspace",
        "--no-deps",
        "--quiet",
        "--document-private-items",
    ];
    run::command_with("cargo", &doc, &[("RUSTDOCFLAGS", "-D warnings")])
}

fn spelling() -> Result<()> {
    let found = Command::new("typos")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if found.is_err() {
        bail!("the spelling checker is missing: `pip install typos` or `cargo install typos-cli`");
    }
    run::command("typos", &[])
}
