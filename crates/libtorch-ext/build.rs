//! Compiles the shim against the LibTorch that torch-sys found, and passes the library folder on:
//! crates that link a binary read it as `DEP_FEWSTEP_LIBTORCH_EXT_LIB` for their run path.

use std::env::{self, VarError};
use std::path::{Path, PathBuf};

fn main() -> Result<(), VarError> {
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");

    // torch-sys tells where LibTorch's libraries are.
    let lib = env::var("DEP_TCH_LIBTORCH_LIB")?;
    let include = include_folder(Path::new(&lib));
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files([
            "csrc/guard.cpp",
            "csrc/lists.cpp",
            "csrc/memory.cpp",
            "csrc/meter.cpp",
            "csrc/recompute.cpp",
            "csrc/rehearsal.cpp",
        ])
        .compile("fewstep_libtorch_ext");

    println!("cargo:LIB={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    Ok(())
}

/// LibTorch's headers lie beside its libraries, unless LIBTORCH_INCLUDE says otherwise.
fn include_folder(lib: &Path) -> PathBuf {
    match env::var_os("LIBTORCH_INCLUDE") {
        Some(root) => PathBuf::from(root).join("include"),
        None => lib.parent().unwrap_or(lib).join("include"),
    }
}
