//! From a component's files to a network's weights: matching names and shapes, and casting each tensor once.
//!
//! It knows layouts, no particular network; what old names mean, a network's key map says.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::stored::Stored;
use super::{Component, Mismatch, ModelError, TensorFile};
use crate::params::{Layout, Weights};

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

    /// Bytes of the files with its weights.
    ///
    /// # Errors
    /// No safetensors there, or a broken file.
    pub fn stored_bytes(&self) -> Result<u64, ModelError> {
        let stored = Stored::find(self.path())?;
        Ok(stored.files.iter().map(TensorFile::len).sum())
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

/// Where a parameter is stored.
struct Place {
    file: usize,
    name: String,
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
