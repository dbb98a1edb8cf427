//! Taking out of the wheels what a build and a run need, and nothing else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use super::download::Downloaded;
use super::{Flavour, VERSION};
use crate::run::say;

/// Unpacks into `home`, which does not exist yet: `home/torch` is then a LibTorch.
pub(super) fn unpack(flavour: Flavour, wheels: &Downloaded, home: &Path) -> Result<()> {
    for wheel in &wheels.files {
        say(&format!(
            "unpacking {}",
            wheel.file_name().unwrap_or_default().to_string_lossy()
        ));
        one(flavour, wheel, home).with_context(|| format!("{} could not be unpacked", wheel.display()))?;
    }
    let torch = home.join("torch");
    if flavour == Flavour::Cpu {
        // What programs link against; in the full build it is a library that adds CUDA's.
        symlink("libtorch_cpu.so", torch.join("lib/libtorch.so"))?;
    }
    fs::write(torch.join("build-version"), format!("{VERSION}\n"))?;
    Ok(())
}

fn one(flavour: Flavour, wheel: &Path, home: &Path) -> Result<()> {
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        let Some(place) = place(flavour, &name) else {
            continue;
        };
        if !place
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            bail!("it holds a file outside itself, {name}");
        }
        let target = home.join(place);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&target).with_context(|| format!("{}", target.display()))?;
        io::copy(&mut entry, &mut file).with_context(|| format!("{}", target.display()))?;
    }
    Ok(())
}

/// Where a wheel's file goes, or that it is not needed.
fn place(flavour: Flavour, name: &str) -> Option<PathBuf> {
    if name.ends_with('/') {
        return None;
    }
    if name.starts_with("torch/include/") {
        return Some(PathBuf::from(name));
    }
    if let Some(file) = name.split_once(".dist-info/").map(|(_, file)| file) {
        let licence =
            file.starts_with("LICENSE") || file.starts_with("NOTICE") || file.starts_with("licenses/");
        return licence.then(|| Path::new("torch/notices").join(name.replace(".dist-info/", "/")));
    }
    let library = name.contains(".so");
    match flavour {
        // The CPU library is linked against two small CUDA ones and finds them beside itself.
        Flavour::Cpu => {
            let file = Path::new(name).file_name()?;
            let needed = [
                "libtorch_cpu.so",
                "libc10.so",
                "libgomp.so.1",
                "libcudart.so.13",
                "libcupti.so.13",
            ];
            needed
                .iter()
                .any(|n| file == *n)
                .then(|| Path::new("torch/lib").join(file))
        }
        // Libraries find each other by paths relative to site-packages: keep those.
        Flavour::Cuda => {
            let kept =
                name.starts_with("torch/lib/") || (name.starts_with("nvidia/") && name.contains("/lib/"));
            (library && kept).then(|| PathBuf::from(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slim_build_keeps_five_libraries_and_the_headers() {
        let kept = |name| place(Flavour::Cpu, name).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(
            kept("torch/lib/libtorch_cpu.so").as_deref(),
            Some("torch/lib/libtorch_cpu.so")
        );
        assert_eq!(
            kept("nvidia/cu13/lib/libcudart.so.13").as_deref(),
            Some("torch/lib/libcudart.so.13")
        );
        assert_eq!(
            kept("torch/include/ATen/ATen.h").as_deref(),
            Some("torch/include/ATen/ATen.h")
        );
        assert_eq!(kept("torch/lib/libtorch_cuda.so"), None);
        assert_eq!(kept("torch/nn/modules.py"), None);
    }

    #[test]
    fn the_full_build_keeps_every_library_where_it_was() {
        let name = "nvidia/cudnn/lib/libcudnn.so.9";
        assert_eq!(place(Flavour::Cuda, name), Some(PathBuf::from(name)));
        assert_eq!(place(Flavour::Cuda, "nvidia/cudnn/include/cudnn.h"), None);
    }
}
