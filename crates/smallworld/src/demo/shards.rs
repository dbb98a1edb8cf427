//! Pictures of the world with their captions, as WebDataset shards.
//!
//! A shard is a function of the world's seed and its own number, so one that is there is kept.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use fewstep_models::weights::{ModelError, write_atomic};
use fewstep_train::Stop;

use super::{WORLD_SEED, go_on};
use crate::ahead::ahead;
use crate::world::{Scene, caption, render};

/// Scenes are numbered from here, away from the teacher's.
const FIRST_SCENE: u64 = 3 << 32;
/// Pictures in a shard.
const EACH: u64 = 1024;

/// Draws the shards that are missing from `folder`, and returns all of them in the words of a data loader.
pub(super) fn draw(folder: &Path, shards: u64, stop: &Stop, say: &mut dyn FnMut(&str)) -> Result<String> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} could not be made", folder.display()))?;
    let path = |number: u64| folder.join(format!("{number:05}.tar"));
    let missing: Vec<u64> = (0..shards).filter(|&number| !path(number).exists()).collect();
    if !missing.is_empty() {
        say(&format!(
            "drawing {} pictures of the small world into {}",
            missing.len() as u64 * EACH,
            folder.display()
        ));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let make = |i: u64| archive(missing[i as usize]);
    ahead(0..missing.len() as u64, threads, make, |archives| {
        for (&number, bytes) in missing.iter().zip(archives) {
            let (path, bytes) = (path(number), bytes?);
            write_atomic(&path, |file| {
                file.write_all(&bytes)
                    .map_err(|error| ModelError::io("write", &path, error))
            })?;
            go_on(stop)?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let last = shards.saturating_sub(1);
    Ok(format!("{}/{{00000..{last:05}}}.tar", folder.display()))
}

/// A shard: for each sample a PNG and its caption.
fn archive(shard: u64) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for number in shard * EACH..(shard + 1) * EACH {
        let scene = Scene::draw(WORLD_SEED, FIRST_SCENE + number);
        let mut add = |extension: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("{number:08}.{extension}"), bytes)
        };
        add("png", &render(&scene).to_png()?)?;
        add("txt", caption(&scene).as_bytes())?;
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_data::{DataConfig, Loader, Origin};

    #[test]
    fn a_loader_reads_what_was_drawn_and_a_second_call_draws_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        let mut draw = || {
            draw(folder.path(), 1, &Stop::new(), &mut |line| {
                lines.push(line.to_owned());
            })
        };
        let shards = draw().unwrap();
        assert_eq!(draw().unwrap(), shards);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let config = DataConfig {
            origin: Origin::Shards(vec![shards]),
            resolution: 64,
            batch_size: 8,
            ..DataConfig::default()
        };
        let mut loader = Loader::new(config).unwrap();
        let batch = loader.next_batch().unwrap();
        assert_eq!(batch.captions.len(), 8);
        assert!(batch.captions[0].ends_with("background"), "{}", batch.captions[0]);
        assert!(loader.drops().is_empty());
    }
}
