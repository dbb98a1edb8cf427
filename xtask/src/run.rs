//! Running other programs: cargo, Python, and our own that need LibTorch.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;

/// One line for the person who runs the chore.
#[expect(clippy::print_stderr, reason = "this is where the chores talk")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(MANIFEST).parent().unwrap_or(Path::new("."))
}

/// Runs a program in the workspace's root; its failing is an error that shows the command.
pub(crate) fn command(program: &str, args: &[&str]) -> Result<()> {
    command_with(program, args, &[])
}

/// The same with variables set, which the command is shown with.
pub(crate) fn command_with(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let set: String = variables
        .iter()
        .map(|(name, value)| format!("{name}='{value}' "))
        .collect();
    let shown = format!("{set}{program} {}", args.join(" "));
    say(&format!("$ {shown}"));
    let status = Command::new(program)
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(root())
        .status()
        .with_context(|| format!("`{program}` could not be started: is it installed and on the PATH?"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// `cargo test` for everything, the documentation's examples too.
pub(crate) fn tests(args: &[String]) -> Result<()> {
    setup::ensure()?;
    let mut all = vec!["test", "--workspace"];
    all.extend(args.iter().map(String::as_str));
    // Tests run side by side, one a core: more threads in each would wait for one another.
    let threads = env::var("OMP_NUM_THREADS").unwrap_or_else(|_| "1".to_owned());
    command_with("cargo", &all, &[("OMP_NUM_THREADS", &threads)])
}

/// The long form of the test that kills runs.
pub(crate) fn kill_test(times: u32) -> Result<()> {
    setup::ensure()?;
    let test = [
        "test",
        "--package",
        "fewstep",
        "--test",
        "program",
        "killed_very_often",
        "--",
        "--ignored",
        "--nocapture",
    ];
    command_with("cargo", &test, &[("FEWSTEP_KILLS", &times.to_string())])
}

/// Builds what the small world runs, then runs `smallworld VERB`.
pub(crate) fn smallworld(verb: &str, args: &[String]) -> Result<()> {
    setup::ensure()?;
    command(
        "cargo",
        &[
            "build",
            "--release",
            "--package",
            "fewstep",
            "--package",
            "smallworld",
        ],
    )?;
    let program = target().join("release").join("smallworld");
    let mut all = vec![verb];
    all.extend(args.iter().map(String::as_str).filter(|&arg| arg != "--"));
    command(&program.to_string_lossy(), &all)
}

/// A script of tools/reference, with a Python that has the reference's packages.
pub(crate) fn reference(script: &str, args: &[&str]) -> Result<()> {
    let script = root().join("tools/reference").join(script);
    let mut all = vec![script.to_string_lossy().into_owned()];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    command(&reference_python(), &all)
        .context("the reference's packages: python3 -m venv .venv && .venv/bin/pip install -r tools/reference/requirements.txt")
}

/// Random models, LoRA files and whole trainings through the reference and through our own binary.
pub(crate) fn parity(args: &[String]) -> Result<()> {
    let program = built()?;
    reference_of(&program, "check_unseen.py", args)?;
    reference_of(&program, "check_lora.py", &[])?;
    reference_of(&program, "check_recipes.py", &[])
}

/// A training step of the reference and ours, in turns on the same model.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    reference_of(&built()?, "bench_train.py", args)
}

/// The data path of the reference and ours, in turns on the same shards.
pub(crate) fn bench_data(args: &[String]) -> Result<()> {
    command(
        "cargo",
        &[
            "build",
            "--release",
            "--package",
            "fewstep-data",
            "--example",
            "throughput",
        ],
    )?;
    reference_of(
        &target().join("release/examples/throughput"),
        "bench_data.py",
        args,
    )
}

/// The program `fewstep`, built as its users have it.
pub(crate) fn built() -> Result<PathBuf> {
    setup::ensure()?;
    command("cargo", &["build", "--release", "--package", "fewstep"])?;
    Ok(target().join("release").join("fewstep"))
}

/// A script of tools/reference that is given a program of ours, and what else the caller of the chore says.
fn reference_of(program: &Path, script: &str, args: &[String]) -> Result<()> {
    let program = program.to_string_lossy();
    let mut all = vec!["--fewstep", &*program];
    all.extend(args.iter().map(String::as_str).filter(|&arg| arg != "--"));
    reference(script, &all)
}

/// FEWSTEP_REFERENCE_PYTHON, the checkout's own environment, or whatever `python3` is.
fn reference_python() -> String {
    let own = root().join(".venv/bin/python");
    match env::var("FEWSTEP_REFERENCE_PYTHON") {
        Ok(python) => python,
        Err(_) if own.is_file() => own.to_string_lossy().into_owned(),
        Err(_) => "python3".to_owned(),
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
