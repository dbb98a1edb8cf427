//! Running the program, and comparing the tensors that it writes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fewstep_models::weights::{read_tensors, write_tensors};
use tch::{Kind, Tensor};

/// What a run of the program left.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The output of a run that must have ended well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self
    }

    /// What a run that must have failed with this status said.
    pub(crate) fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}", self.stderr);
        self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program with arguments, not started yet. It computes on one thread: the models are tiny.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

/// Runs the program to its end.
pub(crate) fn fewstep<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    command(arguments).output().unwrap().into()
}

/// A file or folder of the fixtures.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

/// A path as a command line's word.
pub(crate) fn word(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// Golden tensors, inputs and outputs apart.
pub(crate) struct Golden {
    pub(crate) inputs: BTreeMap<String, Tensor>,
    pub(crate) outputs: BTreeMap<String, Tensor>,
}

/// The golden tensors of this name.
pub(crate) fn golden(name: &str) -> Golden {
    let mut golden = Golden {
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
    };
    for (name, tensor) in read_tensors(&fixture(&format!("golden/{name}.safetensors"))).unwrap() {
        if let Some(name) = name.strip_prefix("in.") {
            golden.inputs.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix("out.") {
            golden.outputs.insert(name.to_owned(), tensor);
        }
    }
    golden
}

/// Writes tensors for the program to read.
pub(crate) fn save(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(path, named, &BTreeMap::new()).unwrap();
}

/// Asserts that two tensors agree, in shape and up to `tolerance` of the largest number wanted.
pub(crate) fn close(name: &str, is: &Tensor, wanted: &Tensor, tolerance: f64) {
    assert_eq!(is.size(), wanted.size(), "{name}");
    let (is, wanted) = (is.to_kind(Kind::Double), wanted.to_kind(Kind::Double));
    let scale = wanted.abs().max().double_value(&[]).max(1e-12);
    let off = (is - wanted).abs().max().double_value(&[]);
    assert!(off <= tolerance * scale, "{name} is off by {off}, of {scale}");
}
