//! WebDataset shards, or a folder of pictures, to batches of pictures and captions.
//!
//! ```no_run
//! use fewstep_data::{DataConfig, Loader, Origin};
//!
//! # fn main() -> Result<(), fewstep_data::DataError> {
//! let mut loader = Loader::new(DataConfig {
//!     origin: Origin::Shards(vec!["data/{00000..00009}.tar".into()]),
//!     resolution: 512,
//!     batch_size: 16,
//!     num_workers: 4,
//!     seed: 7,
//!     ..DataConfig::default()
//! })?;
//! let batch = loader.next_batch()?; // pixels [16, 3, 512, 512] in [-1, 1], captions, sample numbers
//! let cursor = loader.cursor().clone(); // serialisable; names the place after `batch`
//! println!("{}", loader.drops()); // what was left out so far, by cause
//! # let config = DataConfig::default();
//! let (mut later, resumed) = Loader::resume(config, &cursor)?; // its first sample is the very next one
//! # Ok(())
//! # }
//! ```
//!
//! A [`Loader`] never ends: epoch follows epoch, and every sample is seen once an epoch. The samples it delivers,
//! their order, crops and flips are a function of the seed, the window and the shards alone, whatever the number of
//! threads. Several loaders may share the data, each with its [`Part`].
//! Nothing that is dropped goes uncounted: see [`Drops`].
//!
//! From the outside in: [`spec`] names shards, [`source`] opens them, [`tar`] walks their members, [`sample`] groups
//! members; [`folder`] lists the pictures of a folder instead. To what follows both are [`shard`]s: [`order`] shuffles
//! them, [`picture`] decodes, and [`Loader`] joins all this with threads. Beside it, [`pack`] makes shards of a
//! folder, and [`inspect`] says what is in shards. The crate knows no LibTorch: a batch is plain memory.

#![warn(missing_docs)]

mod assemble;
mod batch;
pub mod cache;
mod caption;
mod config;
mod cursor;
mod decoder;
mod drops;
mod error;
mod fnv;
pub mod folder;
pub mod inspect;
mod json;
mod loader;
pub mod order;
pub mod pack;
pub mod picture;
mod place;
mod recall;
mod resume;
pub mod sample;
pub mod secrets;
pub mod shard;
pub mod source;
pub mod spec;
mod squares;
pub mod tar;
mod threads;
mod turns;
mod verdict;
mod waiting;
mod wanted;

pub use batch::{Batch, LatentsOf, PictureSizes};
pub use config::{
    Crop, DataConfig, Drawing, Flip, GivingUp, Limits, Origin, Part, PictureFolder, SourceOptions,
};
pub use cursor::Cursor;
pub use drops::{Cause, Dropped, Drops, Tally};
pub use error::DataError;
pub use loader::{Loader, Prepared};
pub use picture::Interpolation;
pub use place::{NoPlace, Place};
pub use resume::Resumed;
pub use wanted::{Unscored, Wanted};
