//! From a component's files to a network's weights: finding the files, matching names and shapes, and casting
//! each tensor once.
//!
//! It knows files and layouts, no particular network; what old names mean, a network's key map says.

use std::collections::BTreeMap;
use std::path::{Component as Part, Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::folder::read_json;
use super::{Component, Mismatch, ModelError, TensorFile};
use crate::params::{Layout, Weights};

/// What diffusers calls a network's weights, less the ending.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";

/// What transformers calls a network's weights, less the ending.
pub const TRANSFORMERS_STEM: &str = "model";

/// File names are tried in this order: the full weights, then the half-precision variants.
const VARIANTS: [Option<&str>; 3] = [None, Some("fp16"), Some("bf16")];

/// What a stored tensor is to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The parameter of this name.
    Is(String),
    /// The parameter of this name, a matrix that may be stored as a 1x1 convolution `[out, in, 1, 1]`.
    Matrix(String),
    /// Nothing: it is known and not needed.
    Ignored,
}

impl Component {
    /// Loads the weights of a network whose parameters are stored under their own names, each tensor cast
    /// once to `kind` on `device`.
    ///
    /// # Errors
    /// No safetensors there, a broken file, or tensors that are not the layout's: all of them in one error.
    pub fn load(&self, layout: &Arc<Layout>, kind: Kind, device: Device) -> Result<Weights, ModelError> {
        self.load_with(layout, kind, device, |name| Key::Is(name.to_owned()))
    }

    /// Loads weights of which some are stored under other names; `key` says what each stored tensor is.
    ///
    /// # Errors
    /// As for [`Component::load`].
    pub fn load_with(
        &self,
        layout: &Arc<Layout>,
        kind: Kind,
        device: Device,
        key: impl Fn(&str) -> Key,
    ) -> Result<Weights, ModelError> {
        let stored = Stored::find(self.path())?;
        let places = match_layout(&stored, layout, key)?;
        let tensors = places.iter().zip(layout.specs()).map(|(place, spec)| {
            let tensor = stored.files[place.file].tensor_as(&place.name, kind, device)?;
            Ok(tensor.f_view(spec.shape.as_slice())?)
        });
        let tensors: Vec<Tensor> = tensors.collect::<Result<_, ModelError>>()?;
        Ok(Weights::new(layout.clone(), tensors))
    }
}

/// The files that hold a component's tensors, and which holds which.
struct Stored {
    /// The file, or the index of its shards: what errors name.
    path: PathBuf,
    files: Vec<TensorFile>,
    /// Name of a tensor to its file's place in `files`.
    tensors: BTreeMap<String, usize>,
}

/// Where a parameter is stored.
struct Place {
    file: usize,
    name: String,
}

impl Stored {
    fn find(folder: &Path) -> Result<Self, ModelError> {
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
    TensorFile::open(&path)
}

/// Finds the place of every parameter, or lists everything that does not fit.
fn match_layout(
    stored: &Stored,
    layout: &Layout,
    key: impl Fn(&str) -> Key,
) -> Result<Vec<Place>, ModelError> {
    let mut mismatch = Mismatch::default();
    let mut found: BTreeMap<String, Place> = BTreeMap::new();
    for (name, &file) in &stored.tensors {
        let shape = stored.files[file].shape(name).to_vec();
        let (wanted_name, may_be_conv) = match key(name) {
            Key::Is(wanted) => (wanted, false),
            Key::Matrix(wanted) => (wanted, true),
            Key::Ignored => continue,
        };
        let Some(spec) = layout.spec(&wanted_name) else {
            mismatch.unexpected.push((name.clone(), shape));
            continue;
        };
        let matrix = match shape.as_slice() {
            [rest @ .., 1, 1] if may_be_conv && rest.len() == spec.shape.len() => rest,
            whole => whole,
        };
        if matrix != spec.shape {
            mismatch
                .reshaped
                .push((name.clone(), shape.clone(), spec.shape.clone()));
        }
        let dtype = stored.files[file].dtype(name);
        if !matches!(dtype, Some(Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)) {
            let dtype = dtype.map_or(String::new(), |dtype| dtype.to_string());
            mismatch.retyped.push((name.clone(), dtype));
        }
        let place = Place {
            file,
            name: name.clone(),
        };
        if let Some(earlier) = found.insert(wanted_name, place) {
            mismatch.unexpected.push((
                earlier.name.clone(),
                stored.files[earlier.file].shape(&earlier.name).to_vec(),
            ));
        }
    }
    let mut places = Vec::with_capacity(layout.specs().len());
    for spec in layout.specs() {
        match found.remove(&spec.name) {
            Some(place) => places.push(place),
            None => mismatch.missing.push((spec.name.clone(), spec.shape.clone())),
        }
    }
    match mismatch.is_empty() {
        true => Ok(places),
        false => Err(ModelError::Mismatch {
            path: stored.path.clone(),
            mismatch,
        }),
    }
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
