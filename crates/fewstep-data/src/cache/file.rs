//! One file of the cache: safetensors, each tensor named by its key and the sum of its bytes. Written once, as a whole;
//! read a tensor at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Metadata, TensorView};
use twox_hash::XxHash3_64;

use super::{Blob, Dtype, Key};

/// The longest header that is believed; one of a full file has less than two hundred bytes an entry.
const MAX_HEADER: u64 = 100 << 20;

/// What the header has for an entry, about.
pub(super) const HEADER_BYTES: u64 = 150;

/// What the names of files begin with that are not complete.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// A file that is open for reading.
#[derive(Debug)]
pub(super) struct CacheFile {
    pub(super) path: PathBuf,
    file: File,
    /// All of it, in bytes.
    pub(super) length: u64,
}

/// Where a tensor lies in its file, and the sum of its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    start: u64,
    len: u32,
    sum: u64,
}

/// What the header says of a tensor.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: Key,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) extent: Extent,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It does not hold what was written.
    Damaged(String),
    /// The system gives nothing of it.
    Unreadable(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Unusable::Unreadable(error)
    }
}

impl CacheFile {
    /// Opens a file and lists what is in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Listed>), Unusable> {
        let damaged = |reason: String| Unusable::Damaged(reason);
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < 8 {
            return Err(damaged("it ends within its header".to_owned()));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MAX_HEADER || header_len + 8 > length {
            return Err(damaged(format!("its header claims {header_len} bytes")));
        }
        let mut header = Vec::new();
        (&mut file).take(header_len).read_to_end(&mut header)?;
        // The crate checks shapes, and that tensors lie one after another.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let (data, promised) = (length - 8 - header_len, metadata.data_len() as u64);
        if promised != data {
            return Err(damaged(format!(
                "it holds {data} bytes of tensors instead of {promised}"
            )));
        }
        let mut listed = Vec::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let (Some((key, sum)), Ok(len)) = (parsed(&name), u32::try_from(end - start)) else {
                return Err(damaged(format!("`{name}` is no entry of a cache")));
            };
            listed.push(Listed {
                key,
                dtype: info.dtype,
                shape: info.shape.clone(),
                extent: Extent {
                    start: 8 + header_len + start as u64,
                    len,
                    sum,
                },
            });
        }
        let path = path.to_owned();
        Ok((CacheFile { path, file, length }, listed))
    }

    /// The bytes of a tensor, or what is wrong with them.
    pub(super) fn read(&self, extent: Extent) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; extent.len as usize];
        self.file
            .read_exact_at(&mut bytes, extent.start)
            .map_err(|error| error.to_string())?;
        match XxHash3_64::oneshot(&bytes) == extent.sum {
            true => Ok(bytes),
            false => Err("a checksum differs".to_owned()),
        }
    }
}

/// Writes entries to a new file `path`: beside its place, synced, renamed. One that is there already stays as it is,
/// and is an error.
pub(super) fn write(path: &Path, entries: &HashMap<Key, Arc<Blob>>) -> io::Result<()> {
    let views: io::Result<Vec<(String, TensorView<'_>)>> = entries
        .iter()
        .map(|(key, blob)| {
            let view =
                TensorView::new(blob.dtype, blob.shape.clone(), &blob.bytes).map_err(io::Error::other)?;
            Ok((named(*key, &blob.bytes), view))
        })
        .collect();
    let bytes = safetensors::serialize(views?, None).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    File::open(folder)?.sync_all()
}

fn named(key: Key, bytes: &[u8]) -> String {
    format!("{key}.{:016x}", XxHash3_64::oneshot(bytes))
}

fn parsed(name: &str) -> Option<(Key, u64)> {
    let (key, sum) = name.split_once('.')?;
    Some((key.parse().ok()?, u64::from_str_radix(sum, 16).ok()?))
}
