//! Shards made on the spot, sound and otherwise.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod server;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fewstep_data::source::{Access, Source};
use fewstep_data::{Batch, Cause, DataConfig, Drops, Loader, Origin, SourceOptions, spec};
use image::{ImageFormat, Rgb, RgbImage};

/// A picture whose every pixel tells its number and place.
pub fn picture(number: u32, width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, (number * 11) as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn png(number: u32) -> Vec<u8> {
    picture(number, 24, 16, ImageFormat::Png)
}

/// A tar archive of `members`.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A shard of sound samples with the numbers `from..to` as captions and keys.
pub fn sound_shard(from: u32, to: u32) -> Vec<u8> {
    let members: Vec<(String, Vec<u8>)> = (from..to)
        .flat_map(|n| {
            [
                (format!("{n:04}.png"), png(n)),
                (format!("{n:04}.txt"), n.to_string().into_bytes()),
            ]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(path, bytes)| (&**path, &**bytes)).collect();
    archive(&members)
}

/// A folder of shards, written in the order given.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn of(shards: &[Vec<u8>]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (number, bytes) in shards.iter().enumerate() {
            std::fs::write(folder.file(number), bytes).unwrap();
        }
        folder
    }

    /// Four shards of five samples.
    pub fn sound() -> Self {
        Self::of(&[
            sound_shard(0, 5),
            sound_shard(5, 10),
            sound_shard(10, 15),
            sound_shard(15, 20),
        ])
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, number: usize) -> PathBuf {
        self.path().join(format!("{number:03}.tar"))
    }

    /// A small configuration that reads the folder.
    pub fn config(&self) -> DataConfig {
        DataConfig {
            origin: Origin::Shards(vec![self.path().display().to_string()]),
            resolution: 8,
            batch_size: 3,
            seed: 1,
            ..DataConfig::default()
        }
    }
}

pub fn batches(loader: &mut Loader, count: usize) -> Vec<Batch> {
    (0..count).map(|_| loader.next_batch().unwrap()).collect()
}

pub fn captions(batches: &[Batch]) -> Vec<String> {
    batches.iter().flat_map(|batch| batch.captions.clone()).collect()
}

/// Options that wait for next to nothing before asking again, and for long before they think that a place is silent.
pub fn eager() -> SourceOptions {
    SourceOptions {
        timeout: Duration::from_secs(600),
        patience: Duration::from_secs(6000),
        first_wait: Duration::from_millis(1),
        ..SourceOptions::default()
    }
}

/// The same, but what is silent for a moment is taken to be silent for good.
pub fn impatient() -> SourceOptions {
    SourceOptions {
        timeout: Duration::from_millis(300),
        ..eager()
    }
}

/// A configuration that reads `spec` in its own order, one sample a batch.
pub fn config_of(spec: impl Into<String>, sources: SourceOptions) -> DataConfig {
    DataConfig {
        origin: Origin::Shards(vec![spec.into()]),
        resolution: 8,
        batch_size: 1,
        shuffle_window: 1,
        sources,
        ..DataConfig::default()
    }
}

/// The sources that `spec` stands for, reached with these variables in the environment.
pub fn sources(spec: &str, variables: &[(&str, &str)]) -> Vec<std::sync::Arc<dyn Source>> {
    spec::expand(&[spec.into()], &access(eager(), variables)).unwrap()
}

pub fn access(options: SourceOptions, variables: &[(&str, &str)]) -> Access {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Access::new(options, variables.iter().map(own).collect())
}

/// All bytes of a source from `at` on.
pub fn bytes_from(source: &dyn Source, at: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.open_at(at)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The causes that struck, with their counts.
pub fn causes(drops: &Drops) -> Vec<(Cause, u64)> {
    drops.iter().map(|(cause, tally)| (cause, tally.count)).collect()
}

/// The first example of a cause.
pub fn first(drops: &Drops, cause: Cause) -> String {
    let mut found = drops.iter().filter(|(struck, _)| *struck == cause);
    found.next().unwrap().1.first.clone()
}
