//! One safetensors file, memory-mapped: its header is checked when it is opened, its tensors are read on
//! demand.
//!
//! It knows no network: what the names mean is the caller's business.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Device, Kind, Tensor};

use super::ModelError;
use super::dtype::kind_of;

/// A header is JSON of some hundred bytes a tensor; the format allows no more than this.
const LONGEST_HEADER: u64 = 100_000_000;

/// Where and what a tensor is, as LibTorch counts.
#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<i64>,
    /// First byte after the header, and number of bytes.
    start: i64,
    len: i64,
}

/// An open safetensors file.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// The whole file as bytes, copy-on-write.
    bytes: Tensor,
    /// Where the tensors begin.
    start: i64,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens the file, and checks that its header describes exactly the bytes that follow: every tensor has
    /// its place and size inside the file, none overlaps another. Nothing is allocated for the tensors.
    ///
    /// # Errors
    /// The file is missing, cut short, or not safetensors.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bad = |problem: String| {
            ModelError::malformed(path, format_args!("is not a whole safetensors file: {problem}"))
        };
        let io = |source| ModelError::io("read", path, source);
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut prefix = [0; 8];
        if len < 8 {
            return Err(bad(format!("it has {len} bytes, too few for a header")));
        }
        file.read_exact(&mut prefix).map_err(io)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > LONGEST_HEADER.min(len - 8) {
            let room = len - 8;
            return Err(bad(format!(
                "its header claims {header_len} bytes, {room} bytes follow"
            )));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| bad(format!("its header is wrong: {error}")))?;
        let (stated, found) = (metadata.data_len() as u64, len - 8 - header_len);
        if stated != found {
            return Err(bad(format!(
                "its tensors need {stated} bytes, {found} bytes follow its header"
            )));
        }
        let mut entries = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let entry = Entry::new(info).ok_or_else(|| bad(format!("tensor `{name}` is too large")))?;
            entries.insert(name, entry);
        }
        Ok(TensorFile {
            bytes: map(path, len)?,
            path: path.to_owned(),
            start: 8 + header_len as i64,
            entries,
            metadata: pairs(metadata.metadata()),
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.numel() as u64
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The text metadata of its header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether it holds a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor, empty for a name that the file lacks.
    pub fn shape(&self, name: &str) -> &[i64] {
        self.entries.get(name).map_or(&[], |entry| &entry.shape)
    }

    /// The stored dtype of a tensor.
    pub(super) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.entries.get(name).map(|entry| entry.dtype)
    }

    /// A tensor in its stored dtype, as a copy of its own on the CPU.
    ///
    /// # Errors
    /// The file lacks it, or its dtype is not one of f64, f32, f16, bf16, i64, i32, u8 and bool.
    pub fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let view = self.view(name)?;
        let kind = view.kind();
        Ok(view.f_to_device_(Device::Cpu, kind, false, true)?)
    }

    /// A tensor cast once, straight from the mapped file, to this dtype and device.
    ///
    /// # Errors
    /// As for [`TensorFile::tensor`], or the device has no room.
    pub fn tensor_as(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor, ModelError> {
        // Cast on the host, so that the device never holds both dtypes.
        let cast = self.view(name)?.f_to_device_(Device::Cpu, kind, false, true)?;
        Ok(cast.f_to_device(device)?)
    }

    /// A tensor inside the mapped file.
    fn view(&self, name: &str) -> Result<Tensor, ModelError> {
        let Some(entry) = self.entries.get(name) else {
            return Err(ModelError::malformed(
                &self.path,
                format_args!("has no tensor `{name}`"),
            ));
        };
        let Some(kind) = kind_of(entry.dtype) else {
            let dtype = entry.dtype;
            return Err(ModelError::malformed(
                &self.path,
                format_args!(
                    "holds tensor `{name}` as {dtype}, which is not supported: store it as F32, F16 or BF16"
                ),
            ));
        };
        let start = self.start + entry.start;
        let bytes = self.bytes.f_narrow(0, start, entry.len)?;
        let misaligned = start % kind.elt_size_in_bytes() as i64;
        let numbers = match (kind, misaligned) {
            // A stored byte other than 0 and 1 is no bool to LibTorch.
            (Kind::Bool, _) => bytes.f_ne(0)?,
            (_, 0) => bytes.f_view_dtype(kind)?,
            // LibTorch wants numbers at multiples of their size; not every writer does that.
            _ => bytes
                .f_to_device_(Device::Cpu, Kind::Uint8, false, true)?
                .f_view_dtype(kind)?,
        };
        Ok(numbers.f_view(entry.shape.as_slice())?)
    }
}

impl Entry {
    /// None where a size or their product is beyond what LibTorch counts; an empty tensor's sizes can be.
    fn new(info: &TensorInfo) -> Option<Self> {
        let sizes = info.shape.iter().map(|&n| i64::try_from(n));
        let shape: Vec<i64> = sizes.collect::<Result<_, _>>().ok()?;
        shape
            .iter()
            .filter(|&&n| n > 0)
            .try_fold(1i64, |product, &n| product.checked_mul(n))?;
        let (start, end) = info.data_offsets;
        Some(Entry {
            dtype: info.dtype,
            shape,
            start: i64::try_from(start).ok()?,
            len: i64::try_from(end - start).ok()?,
        })
    }
}

/// Maps a file into memory as bytes. LibTorch maps it privately: the file cannot be changed through it.
fn map(path: &Path, len: u64) -> Result<Tensor, ModelError> {
    let Some(name) = path.to_str() else {
        return Err(ModelError::malformed(
            path,
            "cannot be mapped into memory: its path is not UTF-8",
        ));
    };
    Ok(Tensor::f_from_file(
        name,
        false,
        len as i64,
        (Kind::Uint8, Device::Cpu),
    )?)
}

fn pairs(metadata: &Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
