//! Getting LibTorch: into a cache that all checkouts share, with a link `libtorch` in this one.
//!
//! `.cargo/config.toml` points LIBTORCH at that link, so that plain cargo commands need no variable.

mod download;
mod own;
mod unpack;
mod wheels;

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{root, say};

/// The one version that tch 0.24 fits.
const VERSION: &str = "2.11.0";

/// Which build of LibTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The CPU's libraries alone: 0.5 GB on disk.
    Cpu,
    /// With CUDA's: 6 GB on disk.
    Cuda,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Flavour::Cpu => "cpu",
            Flavour::Cuda => "cuda",
        }
    }
}

/// What the other chores call: gets the slim LibTorch unless one is there.
pub(crate) fn ensure() -> Result<()> {
    if own::from_environment()?.is_none() && is_usable(&link())? {
        return Ok(());
    }
    setup(Flavour::Cpu)
}

/// Makes `libtorch` in this checkout a LibTorch of the right version.
pub(crate) fn setup(flavour: Flavour) -> Result<()> {
    if let Some(own) = own::from_environment()? {
        point_link_at(&own)?;
        say(&format!("LibTorch {VERSION}: your own, {}", own.display()));
        return Ok(());
    }
    if is_usable(&link())? && (flavour == Flavour::Cpu || has_cuda(&link())) {
        say(&format!(
            "LibTorch {VERSION} is there: {}",
            fs::canonicalize(link())?.display()
        ));
        return Ok(());
    }
    let cached = install(flavour)?;
    point_link_at(&cached)?;
    say(&format!(
        "LibTorch {VERSION} ({}) is ready: {}",
        flavour.name(),
        cached.display()
    ));
    Ok(())
}

/// Downloads and unpacks into the cache, unless that was done before. Returns the folder with `lib/`.
fn install(flavour: Flavour) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!(
            "setup knows LibTorch for Linux on x86-64 only: install PyTorch {VERSION} for this machine and set \
             LIBTORCH to its folder, or LIBTORCH_USE_PYTORCH=1"
        );
    }
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    let lock =
        File::create(cache.join("lock")).with_context(|| format!("{} is not writable", cache.display()))?;
    // Another checkout may be at it: wait, and then find its work done.
    lock.lock().context("the cache's lock cannot be taken")?;

    let home = cache.join(format!("libtorch-{VERSION}-{}", flavour.name()));
    let libtorch = home.join("torch");
    if is_usable(&libtorch)? {
        return Ok(libtorch);
    }
    let wheels = download::wheels(flavour, &cache)?;
    let partial = cache.join(format!("libtorch-{VERSION}-{}.partial", flavour.name()));
    remove(&partial)?;
    unpack::unpack(flavour, &wheels, &partial)?;
    remove(&home)?;
    fs::rename(&partial, &home)
        .with_context(|| format!("{} cannot be moved into place", partial.display()))?;
    remove(wheels.parent_folder())?;
    Ok(libtorch)
}

/// Whether a LibTorch of the right version is in `folder`; one of another version is an error.
fn is_usable(folder: &Path) -> Result<bool> {
    if !folder.join("lib/libtorch_cpu.so").is_file() || !folder.join("include/ATen/ATen.h").is_file() {
        return Ok(false);
    }
    own::check_version(folder)?;
    Ok(true)
}

fn has_cuda(folder: &Path) -> bool {
    folder.join("lib/libtorch_cuda.so").is_file()
}

fn link() -> PathBuf {
    root().join("libtorch")
}

/// Replaces the link in one step, so that a build never finds none.
fn point_link_at(folder: &Path) -> Result<()> {
    let link = link();
    if fs::canonicalize(&link).ok().as_deref() == Some(folder) {
        return Ok(());
    }
    if link.is_dir() && !link.is_symlink() {
        bail!(
            "{} is a folder of its own: move it away, setup puts a link there",
            link.display()
        );
    }
    let fresh = root().join("libtorch.new");
    remove(&fresh)?;
    symlink(folder, &fresh)
        .and_then(|()| fs::rename(&fresh, &link))
        .with_context(|| format!("the link {} cannot be made", link.display()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("{} cannot be removed", path.display()))
}

/// FEWSTEP_CACHE, or `fewstep` in the user's cache folder.
fn cache() -> Result<PathBuf> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(own) = variable("FEWSTEP_CACHE") {
        return Ok(own);
    }
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let base =
        base.context("neither HOME nor XDG_CACHE_HOME is set: set FEWSTEP_CACHE to a folder for LibTorch")?;
    Ok(base.join("fewstep"))
}
