//! What the targets share: a folder for inputs that are read as files, and mutations that leave what surrounds an input
//! valid (a checksum, a length), so that more of them get past it.
//!
//! It knows formats, and nothing of what reads them.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub mod safetensors;
pub mod tar;

/// Lets panics of libraries pass whose callers are to contain them; one that nobody catches ends the process nevertheless.
pub fn pass_panics_of_libraries() {
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !panic
            .location()
            .is_some_and(|place| place.file().contains("/registry/src/"))
        {
            abort(panic);
        }
    }));
}

/// A folder of this process, below TMPDIR. libFuzzer ends without unwinding, so it stays behind.
#[must_use]
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = tempfile::Builder::new().prefix("fewstep-fuzz-").tempdir();
        folder.expect("a folder below TMPDIR").keep()
    });
    &FOLDER
}

/// Writes a file into that folder, and into folders in it that its name says.
///
/// # Panics
/// The file cannot be written.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder can be made");
    }
    fs::write(&path, bytes).expect("a file can be written");
    path
}

/// The first line of an input, without its end, and what follows it.
#[must_use]
pub fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}
