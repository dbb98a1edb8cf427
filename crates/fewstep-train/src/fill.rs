//! Filling a cache ahead: every picture's latents, of each of its crops and both ways round if it is mirrored now and
//! then, and every caption's embeddings. And how much room that takes.

use std::fmt;
use std::path::PathBuf;

use fewstep_data::Drops;
use fewstep_data::cache::{Note, Usage, Walk};
use fewstep_models::weights::Folder;
use libtorch_ext::TorchError;
use tch::Tensor;

use crate::cache::{self, Cache};
use crate::conditioning::Conditioner;
use crate::config::{Config, ConfigError};
use crate::data::data_config;
use crate::error::TrainError;
use crate::signals::Stop;
use crate::{device, out_of_memory};

/// What a cache holds, and what more would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Its folder.
    pub folder: PathBuf,
    /// What it holds already, of whatever data and models.
    pub usage: Usage,
    /// Bytes of one square's latents.
    pub square_bytes: u64,
    /// Squares of each picture, at most.
    pub squares: u64,
    /// Bytes of one caption's embeddings.
    pub caption_bytes: u64,
    /// Pictures in an epoch: counted in a folder; of shards what max_train_samples says.
    pub pictures: Option<u64>,
    /// Bytes that there is room for.
    pub room: Option<u64>,
}

/// How far the filling has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// Samples looked at.
    pub pictures: u64,
    /// Squares and captions that were made.
    pub made: u64,
    /// Squares and captions that were there.
    pub known: u64,
    /// What the cache holds.
    pub usage: Usage,
}

/// A watcher of the filling. Every method may do nothing.
pub trait FillObserver {
    /// It begins.
    fn started(&mut self, estimate: &Estimate) {
        let _ = estimate;
    }

    /// A sample is done.
    fn progress(&mut self, filling: &Filling) {
        let _ = filling;
    }

    /// The cache met with something.
    fn note(&mut self, note: &Note) {
        let _ = note;
    }
}

/// Nobody watches.
impl FillObserver for () {}

/// How the filling ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// How far it came.
    pub filling: Filling,
    /// Whether all samples were looked at, and all that was made could be kept.
    pub complete: bool,
    /// Samples and shards left out, with causes.
    pub drops: Drops,
}

impl Estimate {
    /// `samples` is the most samples of the data, where that is known.
    pub(crate) fn new(
        config: &Config,
        cache: &Cache,
        conditioner: &Conditioner,
        samples: Option<u64>,
    ) -> Self {
        let (square_bytes, caption_bytes) = conditioner.entry_bytes(config.resolution());
        let facings = 1 + u64::from(config.data.random_flip);
        let store = cache.store();
        Estimate {
            folder: store.folder().to_owned(),
            usage: store.usage(),
            square_bytes,
            squares: facings * u64::from(config.data.cache_crops.unwrap_or(1)),
            caption_bytes,
            pictures: samples.or(config.data.max_train_samples),
            room: store.room(),
        }
    }

    /// Bytes of a picture with one caption.
    pub fn picture_bytes(&self) -> u64 {
        self.squares * self.square_bytes + self.caption_bytes
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        write!(
            f,
            "the cache {} holds {}, {:.3} GB; a picture takes {:.1} kB: {} x {:.1} kB of latents and {:.1} kB a \
             caption",
            self.folder.display(),
            Counted(self.usage.entries as u64, "entry", "entries"),
            gb(self.usage.bytes),
            self.picture_bytes() as f64 / 1e3,
            self.squares,
            self.square_bytes as f64 / 1e3,
            self.caption_bytes as f64 / 1e3,
        )?;
        match self.pictures {
            Some(pictures) => {
                let wanted = pictures.saturating_mul(self.picture_bytes());
                let pictures = Counted(pictures, "picture", "pictures");
                write!(f, "; for {pictures} that is {:.3} GB", gb(wanted))?;
            }
            None => f.write_str("; --max_train_samples would tell how much they all take")?,
        }
        match self.room {
            Some(room) => {
                let fits = room / self.picture_bytes().max(1);
                write!(
                    f,
                    "; there is room for {:.1} GB more, {}",
                    gb(room),
                    Counted(fits, "picture", "pictures")
                )
            }
            None => Ok(()),
        }
    }
}

/// Fills the cache that the options name with all of one epoch, until it is done or `stop` is asked for. What is there
/// stays, so it goes on where it was interrupted.
///
/// # Errors
/// Options, models or data that are wrong.
pub fn fill(config: &Config, stop: &Stop, observer: &mut dyn FillObserver) -> Result<Filled, TrainError> {
    run(config, stop, observer).map_err(|error| out_of_memory::explain(error, config))
}

fn run(config: &Config, stop: &Stop, observer: &mut dyn FillObserver) -> Result<Filled, TrainError> {
    config.validate_step()?;
    config.validate_data()?;
    let device = device::resolve(&config.run)?;
    let teacher = Folder::open(&config.teacher()?)?;
    let kind = config.run.mixed_precision.kind();
    let conditioner = Conditioner::load(&teacher, config, kind, device)?;
    let cache = conditioner.cache().ok_or(ConfigError::Missing {
        flag: "cache_dir",
        hint: "give the folder that is to be filled",
    })?;
    let mut walk = Walk::new(data_config(config), cache.latents())?;
    observer.started(&Estimate::new(config, cache, &conditioner, walk.samples()));
    let mut filling = Filling::of(cache);
    let (mut ended, mut failed) = (false, None);
    while !stop.is_asked() && !cache.store().is_closed() {
        let missing = match walk.next() {
            Some(Ok(missing)) => missing,
            Some(Err(error)) => {
                failed = Some(error);
                break;
            }
            None => {
                ended = true;
                break;
            }
        };
        filling.known += missing.known as u64;
        let side = i64::from(config.resolution());
        for (key, pixels) in missing.squares() {
            let picture = Tensor::f_from_slice(&pixels)
                .and_then(|pixels| pixels.f_view([1, 3, side, side]))
                .map_err(TorchError::from)?;
            conditioner.fill_picture(&picture, key)?;
            filling.made += 1;
        }
        for caption in &missing.captions {
            match conditioner.fill_caption(caption)? {
                true => filling.made += 1,
                false => filling.known += 1,
            }
        }
        filling.pictures += 1;
        filling.usage = cache.store().usage();
        for note in cache::notes(Some(cache)) {
            observer.note(&note);
        }
        observer.progress(&filling);
    }
    cache.store().flush();
    for note in cache::notes(Some(cache)) {
        observer.note(&note);
    }
    filling.usage = cache.store().usage();
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(Filled {
        complete: ended && !cache.store().is_closed(),
        drops: walk.drops().clone(),
        filling,
    })
}

impl Filling {
    fn of(cache: &Cache) -> Self {
        Filling {
            pictures: 0,
            made: 0,
            known: 0,
            usage: cache.store().usage(),
        }
    }
}

impl fmt::Display for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} made, {} there before; the cache holds {} in {:.3} GB",
            Counted(self.pictures, "picture", "pictures"),
            Counted(self.made, "entry", "entries"),
            self.known,
            Counted(self.usage.entries as u64, "entry", "entries"),
            self.usage.bytes as f64 / 1e9
        )
    }
}

/// So many of something, with its word for one and for more.
struct Counted(u64, &'static str, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(count, one, more) = *self;
        write!(f, "{count} {}", if count == 1 { one } else { more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_as_one() {
        let mut filling = Filling {
            pictures: 1,
            made: 1,
            known: 0,
            usage: Usage {
                entries: 1,
                bytes: 4_000_000,
            },
        };
        let one = "1 picture: 1 entry made, 0 there before; the cache holds 1 entry in 0.004 GB";
        assert_eq!(filling.to_string(), one);
        filling.pictures = 2;
        assert!(filling.to_string().starts_with("2 pictures: "));
    }
}
