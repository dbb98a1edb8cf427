//! Lets the targets that link LibTorch find it where the build found it.

fn main() {
    if let Ok(lib) = std::env::var("DEP_FEWSTEP_LIBTORCH_EXT_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
