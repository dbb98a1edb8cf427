//! Compiles the shim against the LibTorch that torch-sys found, and passes the library folder on:
//! crates that link a binary read it as `DEP_FEWSTEP_LIBTORCH_EXT_LIB` for their run path.

use std::env::{self, VarError};
use std::path::{Path, PathBuf};

/// The variants of the tiles: name, archive and the compiler's flags. The plain one runs anywhere.
const TILES: [(&str, &str, &[&str]); 3] = [
    ("tiles_plain", "fewstep_tiles_plain", &[]),
    ("tiles_avx2", "fewstep_tiles_avx2", &["-mavx2", "-mfma"]),
    (
        "tiles_avx512",
        "fewstep_tiles_avx512",
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    ),
];

fn main() -> Result<(), VarError> {
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");

    // torch-sys tells where LibTorch's libraries are.
    let lib = env::var("DEP_TCH_LIBTORCH_LIB")?;
    let include = include_folder(Path::new(&lib));
    let x86 = env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64";
    let mut shim = compiler(x86);
    shim.include(&include)
        .include(include.join("torch/csrc/api/include"))
        // What ProcessGroupGloo.hpp wants of Gloo, whose headers LibTorch leaves out.
        .include("csrc/gloo_shim")
        .define("USE_C10D_GLOO", None)
        .files([
            "csrc/backward.cpp",
            "csrc/group.cpp",
            "csrc/guard.cpp",
            "csrc/lists.cpp",
            "csrc/memory.cpp",
            "csrc/meter.cpp",
            "csrc/nccl.cpp",
            "csrc/profiler.cpp",
            "csrc/recompute.cpp",
            "csrc/rehearsal.cpp",
            "csrc/store.cpp",
            "csrc/sweep.cpp",
        ])
        .compile("fewstep_libtorch_ext");
    // The shim names them, so they come after it.
    for (name, archive, flags) in &TILES[..if x86 { TILES.len() } else { 1 }] {
        tiles(x86, name, archive, flags);
    }

    println!("cargo:LIB={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    Ok(())
}

fn compiler(x86: bool) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").warnings(false);
    if x86 {
        build.define("FEWSTEP_X86", None);
    }
    build
}

/// Compiles a variant of the tiles, which are fast in every profile and give the same bits in each.
fn tiles(x86: bool, name: &str, archive: &str, flags: &[&str]) {
    let mut build = compiler(x86);
    build.opt_level(3).define("FEWSTEP_TILES", name);
    for flag in ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
        .iter()
        .chain(flags)
    {
        build.flag(flag);
    }
    build.file("csrc/tiles.cpp").compile(archive);
}

/// LibTorch's headers lie beside its libraries, unless LIBTORCH_INCLUDE says otherwise.
fn include_folder(lib: &Path) -> PathBuf {
    match env::var_os("LIBTORCH_INCLUDE") {
        Some(root) => PathBuf::from(root).join("include"),
        None => lib.parent().unwrap_or(lib).join("include"),
    }
}
