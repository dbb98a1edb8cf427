//! Downloading wheels with pip, which checks each against its digest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::wheels::{self, Wheel};
use super::{Flavour, VERSION};
use crate::run::say;

/// The Python whose wheels we take, whatever the machine's: their libraries are the same.
const PYTHON: &str = "3.11";

const OTHERWISE: &str = "or set LIBTORCH to a LibTorch 2.11.0 of your own";

/// The wheels on disk.
pub(super) struct Downloaded {
    folder: PathBuf,
    /// Each wheel's file.
    pub(super) files: Vec<PathBuf>,
}

impl Downloaded {
    /// The folder that holds them, and nothing else.
    pub(super) fn parent_folder(&self) -> &Path {
        &self.folder
    }
}

/// Downloads what `flavour` needs. Wheels that an interrupted run finished are kept and not asked for again.
pub(super) fn wheels(flavour: Flavour, cache: &Path) -> Result<Downloaded> {
    check_pip()?;
    let wanted = wheels::wheels(flavour);
    let folder = cache.join(format!("wheels-{VERSION}-{}", flavour.name()));
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let bytes: u64 = wanted.iter().map(|wheel| wheel.bytes).sum();
    say(&format!(
        "downloading LibTorch {VERSION} ({}): {} wheels, {:.2} GB, once for all checkouts",
        flavour.name(),
        wanted.len(),
        bytes as f64 / 1e9
    ));
    let list = folder.join("requirements.txt");
    let lines: String = wanted.iter().map(|wheel| requirement(wheel)).collect();
    fs::write(&list, lines).with_context(|| format!("{} cannot be written", list.display()))?;
    pip(&list, &folder)?;
    let files = wanted
        .iter()
        .map(|wheel| find(&folder, wheel))
        .collect::<Result<_>>()?;
    Ok(Downloaded { folder, files })
}

fn requirement(wheel: &Wheel) -> String {
    format!(
        "{}=={} --hash=sha256:{}\n",
        wheel.package, wheel.version, wheel.sha256
    )
}

fn pip(list: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]);
    command.args([
        "--disable-pip-version-check",
        "--retries",
        "3",
        "--implementation",
        "cp",
    ]);
    command.args(["--python-version", PYTHON]);
    for tag in ["2_28", "2_27", "2_25", "2_18", "2_17", "2014", "1"] {
        let name = if tag.contains('_') {
            format!("manylinux_{tag}")
        } else {
            format!("manylinux{tag}")
        };
        command.args(["--platform".to_owned(), format!("{name}_x86_64")]);
    }
    command.arg("--dest").arg(folder).arg("--requirement").arg(list);
    // pip draws its progress on stdout; what it says on stderr is for the error message.
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn();
    let output = output
        .and_then(|child| child.wait_with_output())
        .context("pip could not be started")?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!(
        "pip could not download LibTorch ({}): check the network, the proxy and the free disk, then run \
         `cargo xtask setup` again, {OTHERWISE}",
        cause(&stderr)
    )
}

/// What pip said of the cause, in one line.
fn cause(stderr: &str) -> &str {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let system = lines().find_map(|line| line.split_once("[Errno ").map(|(_, rest)| rest));
    if let Some(error) = system
        .and_then(|rest| rest.split_once("] "))
        .map(|(_, text)| text)
    {
        return error.split('\'').next().unwrap_or(error);
    }
    let said = lines()
        .rfind(|line| line.starts_with("ERROR:"))
        .or_else(|| lines().next_back());
    said.map_or("it gave no reason", |line| line.trim_start_matches("ERROR: "))
}

fn check_pip() -> Result<()> {
    let quiet = |args: &[&str]| {
        Command::new("python3")
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    match quiet(&["-m", "pip", "--version"]) {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!(
            "`python3` has no pip, which downloads LibTorch: install it (Debian: apt install python3-pip), {OTHERWISE}"
        ),
        Err(_) => bail!(
            "there is no `python3`, whose pip downloads LibTorch: install it (Debian: apt install python3-pip), \
             {OTHERWISE}"
        ),
    }
}

/// The file that pip saved for `wheel`.
fn find(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let start = format!("{}-{}-", wheel.package.replace('-', "_"), wheel.version);
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&start))
        })
        .with_context(|| format!("pip saved no {start}*.whl in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn the_cause_is_one_line() {
        let refused = "WARNING: Retrying after 'NewConnectionError('<x>: [Errno 111] Connection refused')': /y/\n\
                       ERROR: No matching distribution found\n";
        assert_eq!(cause(refused), "Connection refused");
        assert_eq!(
            cause("noise\nERROR: HASHES DO NOT MATCH\n\n"),
            "HASHES DO NOT MATCH"
        );
        assert_eq!(cause(""), "it gave no reason");
    }
}
