//! A LibTorch that the user brings: LIBTORCH, or the one inside an installed PyTorch.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::VERSION;
use crate::run::root;

/// The user's own LibTorch, if the environment names one; an error if it cannot serve.
pub(super) fn from_environment() -> Result<Option<PathBuf>> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return inside_pytorch().map(Some);
    }
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else {
        return Ok(None);
    };
    // Cargo passes the default of .cargo/config.toml on; that is nobody's choice.
    if folder == root().join("libtorch") || folder.as_os_str().is_empty() {
        return Ok(None);
    }
    if !folder.join("lib/libtorch_cpu.so").is_file() || !folder.join("include/ATen/ATen.h").is_file() {
        bail!(
            "LIBTORCH is {}, but that folder has no lib/libtorch_cpu.so with include/ATen beside it: unset \
             LIBTORCH to let setup get one, or point it at a LibTorch {VERSION}",
            folder.display()
        );
    }
    check_version(&folder)?;
    fs::canonicalize(&folder)
        .map(Some)
        .with_context(|| format!("{} cannot be read", folder.display()))
}

/// The folder of the PyTorch that `python3` imports.
fn inside_pytorch() -> Result<PathBuf> {
    const REMEDY: &str = "unset LIBTORCH_USE_PYTORCH to let setup get LibTorch";
    let script = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let output = Command::new("python3").args(["-c", script]).output();
    let output = output.with_context(|| {
        format!("LIBTORCH_USE_PYTORCH is set, but `python3` could not be started: {REMEDY}")
    })?;
    if !output.status.success() {
        bail!(
            "LIBTORCH_USE_PYTORCH is set, but `python3` finds no torch: {REMEDY}, or install torch {VERSION}"
        );
    }
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    check_version(&folder)?;
    Ok(folder)
}

/// Fails where `folder` says it holds another version than ours.
pub(super) fn check_version(folder: &Path) -> Result<()> {
    let found = version_in(folder);
    match found
        .as_deref()
        .map(|version| version.split('+').next().unwrap_or(version))
    {
        None | Some(VERSION) => Ok(()),
        Some(other) => bail!(
            "{} holds LibTorch {other}, but fewstep needs {VERSION}: remove it or unset LIBTORCH and run \
             `cargo xtask setup`, or point LIBTORCH at a LibTorch {VERSION}",
            folder.display()
        ),
    }
}

/// A LibTorch archive carries `build-version`, a Python package `version.py`.
fn version_in(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__ ="))?;
    Some(line.split(['\'', '"']).nth(1)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, file: &str, text: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("fewstep-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
        folder
    }

    #[test]
    fn another_version_is_refused_with_the_remedy() {
        let old = folder("old", "build-version", "2.7.0+cpu\n");
        let text = check_version(&old).unwrap_err().to_string();
        assert!(
            text.contains("holds LibTorch 2.7.0, but fewstep needs 2.11.0"),
            "{text}"
        );
        assert!(text.contains("cargo xtask setup"), "{text}");
        fs::remove_dir_all(old).unwrap();
    }

    #[test]
    fn a_python_package_tells_its_version() {
        let package = folder("python", "version.py", "x = 1\n__version__ = '2.11.0+cu130'\n");
        assert_eq!(version_in(&package).as_deref(), Some("2.11.0+cu130"));
        check_version(&package).unwrap();
        fs::remove_dir_all(package).unwrap();
    }
}
