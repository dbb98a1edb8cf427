//! A model in diffusers' layout: a root folder with one folder a component, each with its configuration and
//! weights.
//!
//! It knows where files lie and what they are called, not what a configuration means.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ModelError;
use super::inside::{check_part, read_text};

/// The root folder of a model.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The model in this folder.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        must_be_folder(path, "it must be the folder of a model in diffusers' layout")?;
        Ok(Folder {
            path: path.to_owned(),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a part of the model, whether or not it is there: `tokenizer`, `scheduler`.
    ///
    /// # Errors
    /// It is a link that leads out of the model's folder.
    pub fn part(&self, name: &str) -> Result<PathBuf, ModelError> {
        let path = self.path.join(name);
        check_part(&self.path, &path)?;
        Ok(path)
    }

    /// Whether the model has this component.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).is_dir()
    }

    /// The root's model_index.json, which says which classes the components are.
    ///
    /// # Errors
    /// It is missing or not JSON.
    pub fn index(&self) -> Result<Value, ModelError> {
        read_json(
            &self.path.join("model_index.json"),
            "a model's root folder in diffusers' layout has this file",
        )
    }

    /// The component of this name: `unet`, `vae`, `text_encoder`.
    ///
    /// # Errors
    /// There is no such folder, it is a link out of the model's, or its config.json is missing or wrong.
    pub fn component(&self, name: &str) -> Result<Component, ModelError> {
        let path = self.part(name)?;
        must_be_folder(
            &path,
            &format!("a model in diffusers' layout has a folder `{name}`"),
        )?;
        Component::open(&path)
    }

    /// The component in another folder `other`, itself or with one of this name inside; the model's own where
    /// `None`.
    ///
    /// # Errors
    /// As [`Folder::component`].
    pub fn component_or(&self, name: &str, other: Option<&Path>) -> Result<Component, ModelError> {
        let Some(other) = other else {
            return self.component(name);
        };
        let folder = Folder::open(other)?;
        match folder.has(name) {
            true => folder.component(name),
            false => Component::open(other),
        }
    }
}

/// One network's folder: config.json and weights.
#[derive(Debug, Clone)]
pub struct Component {
    path: PathBuf,
    config: Value,
}

impl Component {
    /// The network in this folder.
    ///
    /// # Errors
    /// There is no such folder, or its config.json is missing or wrong.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        must_be_folder(
            path,
            "it must hold a network: config.json and its weights as safetensors",
        )?;
        let config = read_json(
            &path.join("config.json"),
            "it describes the network in this folder",
        )?;
        Ok(Component {
            path: path.to_owned(),
            config,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its config.json holds.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Reads its configuration with `parse`, whose errors then name the file.
    ///
    /// # Errors
    /// What `parse` refuses.
    pub fn parse<T>(&self, parse: impl FnOnce(&Value) -> Result<T, ModelError>) -> Result<T, ModelError> {
        parse(&self.config).map_err(|error| error.in_file(&self.path.join("config.json")))
    }
}

/// Reads a JSON file of a folder that is not trusted. `remedy` says what the file is for, where it is missing.
///
/// # Errors
/// It is missing, unreadable, not JSON, far too long, or a link out of its folder.
pub fn read_json(path: &Path, remedy: &str) -> Result<Value, ModelError> {
    if !path.exists() {
        return Err(ModelError::Missing {
            path: path.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
    serde_json::from_str(&read_text(path)?).map_err(|source| ModelError::Json {
        path: path.to_owned(),
        source,
    })
}

fn must_be_folder(path: &Path, remedy: &str) -> Result<(), ModelError> {
    match path.is_dir() {
        true => Ok(()),
        false if path.exists() => Err(ModelError::malformed(
            path,
            format_args!("is not a folder: {remedy}"),
        )),
        false => Err(ModelError::Missing {
            path: path.to_owned(),
            remedy: remedy.to_owned(),
        }),
    }
}
