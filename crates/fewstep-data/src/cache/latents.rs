//! The keys of pictures' latents.

use std::sync::Arc;

use super::{Blob, Key, KeyMaker, Store};
use crate::config::DataConfig;
use crate::picture::{Facing, Square};

/// What a VAE made of pictures, in a store.
#[derive(Debug, Clone)]
pub struct Latents {
    store: Arc<Store>,
    /// The digest of the VAE.
    vae: Key,
}

impl Latents {
    /// Those in `store` of the VAE with the digest `vae`.
    pub fn new(store: Arc<Store>, vae: Key) -> Self {
        Latents { store, vae }
    }

    /// The key of a square of the picture whose file has the digest `picture`. This version of the crate is part of
    /// it: another may decode or resize with other rounding.
    pub(crate) fn key(&self, config: &DataConfig, picture: Key, square: Square) -> Key {
        KeyMaker::new("latents")
            .bytes(env!("CARGO_PKG_VERSION").as_bytes())
            .key(self.vae)
            .key(picture)
            .number(config.resolution.into())
            .bytes(config.interpolation.name().as_bytes())
            .number(square.top.into())
            .number(square.left.into())
            .number(match square.facing {
                Facing::Stored => 0,
                Facing::Mirrored => 1,
            })
            .finish()
    }

    pub(crate) fn holds(&self, key: Key) -> bool {
        self.store.holds(key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<Blob>> {
        self.store.get(key)
    }
}
