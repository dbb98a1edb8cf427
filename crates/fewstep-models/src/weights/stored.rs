//! Which files of a folder hold a network's tensors: one file, or shards with an index, of the full weights or a
//! variant.
//!
//! It knows file names; what the tensors are to a network is the loader's business.

use std::collections::BTreeMap;
use std::path::{Component as Part, Path, PathBuf};

use serde_json::Value;

use super::folder::read_json;
use super::inside::check_file;
use super::{ModelError, TensorFile};

/// What diffusers calls a network's weights, less the ending.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";

/// What transformers calls a network's weights, less the ending.
pub const TRANSFORMERS_STEM: &str = "model";

/// File names are tried in this order: the full weights, then the half-precision variants.
const VARIANTS: [Option<&str>; 3] = [None, Some("fp16"), Some("bf16")];

/// The files that hold a component's tensors, and which holds which.
pub(super) struct Stored {
    /// The file, or the index of its shards: what errors name.
    pub(super) path: PathBuf,
    pub(super) files: Vec<TensorFile>,
    /// Name of a tensor to its file's place in `files`.
    pub(super) tensors: BTreeMap<String, usize>,
}

impl Stored {
    /// Finds them in a component's folder, and opens every file.
    pub(super) fn find(folder: &Path) -> Result<Self, ModelError> {
        for variant in VARIANTS {
            for stem in [DIFFUSERS_STEM, TRANSFORMERS_STEM] {
                let dotted = variant.map_or(String::new(), |variant| format!(".{variant}"));
                let index = folder.join(format!("{stem}.safetensors.index{dotted}.json"));
                if index.is_file() {
                    return Stored::sharded(index, folder);
                }
                let single = folder.join(format!("{stem}{dotted}.safetensors"));
                if single.is_file() {
                    return Stored::single(single);
                }
            }
        }
        Err(nothing_found(folder))
    }

    fn single(path: PathBuf) -> Result<Self, ModelError> {
        check_file(&path)?;
        let file = TensorFile::open(&path)?;
        Ok(Stored {
            path,
            tensors: file.names().map(|name| (name.to_owned(), 0)).collect(),
            files: vec![file],
        })
    }

    fn sharded(index: PathBuf, folder: &Path) -> Result<Self, ModelError> {
        let value = read_json(&index, "it says which shard holds which tensor")?;
        let Some(Value::Object(map)) = value.get("weight_map") else {
            return Err(ModelError::malformed(
                &index,
                "has no `weight_map` from tensors to shards",
            ));
        };
        let mut shards: BTreeMap<&str, usize> = BTreeMap::new();
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for (name, shard) in map {
            let Some(shard) = shard.as_str() else {
                let problem =
                    format_args!("names {shard} as the shard of `{name}`, which is not a file name");
                return Err(ModelError::malformed(&index, problem));
            };
            let file = match shards.get(shard) {
                Some(&file) => file,
                None => {
                    files.push(open_shard(&index, folder, shard)?);
                    shards.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            if !files[file].contains(name) {
                let problem = format_args!("says that {shard} holds `{name}`, but it does not");
                return Err(ModelError::malformed(&index, problem));
            }
            tensors.insert(name.clone(), file);
        }
        Ok(Stored {
            path: index,
            files,
            tensors,
        })
    }
}

/// Opens a shard, which must lie beside the index that names it.
fn open_shard(index: &Path, folder: &Path, shard: &str) -> Result<TensorFile, ModelError> {
    let mut parts = Path::new(shard).components();
    if !matches!((parts.next(), parts.next()), (Some(Part::Normal(_)), None)) {
        let problem = format_args!("names the shard `{shard}`, which is not a file in its own folder");
        return Err(ModelError::malformed(index, problem));
    }
    let path = folder.join(shard);
    if !path.is_file() {
        return Err(ModelError::Missing {
            path,
            remedy: format!(
                "{} names it as a shard, so the model is not complete",
                index.display()
            ),
        });
    }
    check_file(&path)?;
    TensorFile::open(&path)
}

/// Says what a folder without safetensors has instead.
fn nothing_found(folder: &Path) -> ModelError {
    let pickle = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("bin" | "ckpt" | "pt" | "pth"))
    };
    let mut pickles: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(pickle)
        .collect();
    pickles.sort();
    match pickles.into_iter().next() {
        Some(path) => ModelError::Pickle { path },
        None => ModelError::Missing {
            path: folder.join(format!("{DIFFUSERS_STEM}.safetensors")),
            remedy: format!("the folder must hold it, or {TRANSFORMERS_STEM}.safetensors, or their shards"),
        },
    }
}
