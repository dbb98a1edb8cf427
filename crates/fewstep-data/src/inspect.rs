//! What is in shards, and what a loader would leave out of them and why. It reads every picture as a loader does.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::DataConfig;
use crate::decoder::Decoder;
use crate::drops::{Dropped, Drops};
pub use crate::sample::Files;
use crate::sample::{Found, Sample, Samples};
use crate::source::Source;

/// Captions that are kept as examples.
const EXAMPLES: usize = 5;

/// Everything found in the shards looked at so far.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Shards looked at.
    pub shards: u64,
    /// Samples that a loader would deliver.
    pub samples: u64,
    /// What it would leave out, and why.
    pub drops: Drops,
    /// By extension, in lower case: the files, and their bytes together.
    pub extensions: BTreeMap<String, Files>,
    /// The first and the last key of a usable sample.
    pub keys: Option<(String, String)>,
    /// Some of the captions, with their samples' names.
    pub captions: Vec<(String, String)>,
    caption_chars: Vec<u64>,
    picture_bytes: Vec<u64>,
    widths: Vec<u64>,
    heights: Vec<u64>,
}

/// The least, the middle and the largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The middle one; of an even count the upper of the two.
    pub median: u64,
    /// The largest.
    pub max: u64,
}

impl Inspection {
    /// Looks at one more shard, as a loader with this configuration does; of where its data come from it looks at nothing
    /// else. What is wrong with the shard is counted.
    pub fn add(&mut self, source: &Arc<dyn Source>, config: &DataConfig) {
        self.shards += 1;
        let reader = match source.open() {
            Ok(reader) => reader,
            Err(error) => {
                return self.drops.add(Dropped::shard(source.name(), &error));
            }
        };
        let mut decoder = Decoder::new(config);
        // Read once: standard input cannot be read twice, and another machine should not be asked twice.
        let wanted = Arc::new(config.wanted.clone());
        let mut samples = Samples::new(source.name().into(), reader, config.limits, wanted);
        for (_, found) in &mut samples {
            match found {
                Found::Dropped(dropped) => self.drops.add(dropped),
                Found::Sample(sample) => self.sample(sample, &mut decoder),
            }
        }
        for (extension, more) in samples.files() {
            let files = self.extensions.entry(extension.clone()).or_default();
            files.count += more.count;
            files.bytes = files.bytes.saturating_add(more.bytes);
        }
    }

    fn sample(&mut self, sample: Sample, decoder: &mut Decoder) {
        let (key, bytes) = (sample.key.clone(), sample.image.len() as u64);
        match decoder.decode(sample) {
            Err(dropped) => self.drops.add(dropped),
            Ok(decoded) => {
                self.samples += 1;
                self.picture_bytes.push(bytes);
                self.heights.push(u64::from(decoded.original.0));
                self.widths.push(u64::from(decoded.original.1));
                self.note(key, decoded.name, decoded.captions);
            }
        }
    }

    /// Widths of the usable pictures in pixels, turned upright.
    pub fn widths(&self) -> Option<Spread> {
        spread(&self.widths)
    }

    /// Heights of the usable pictures in pixels, turned upright.
    pub fn heights(&self) -> Option<Spread> {
        spread(&self.heights)
    }

    /// Bytes of the usable pictures' files.
    pub fn picture_bytes(&self) -> Option<Spread> {
        spread(&self.picture_bytes)
    }

    /// Characters of the usable captions.
    pub fn caption_chars(&self) -> Option<Spread> {
        spread(&self.caption_chars)
    }

    fn note(&mut self, key: String, name: String, captions: Vec<String>) {
        match &mut self.keys {
            Some((_, last)) => *last = key,
            none => *none = Some((key.clone(), key)),
        }
        for caption in captions {
            self.caption_chars.push(caption.chars().count() as u64);
            if self.captions.len() < EXAMPLES {
                self.captions.push((name.clone(), caption));
            }
        }
    }
}

fn spread(numbers: &[u64]) -> Option<Spread> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    Some(Spread {
        min: *sorted.first()?,
        median: *sorted.get(sorted.len() / 2)?,
        max: *sorted.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_needs_a_number() {
        assert_eq!(spread(&[]), None);
        let wanted = Spread {
            min: 1,
            median: 5,
            max: 9,
        };
        assert_eq!(spread(&[5, 9, 1]), Some(wanted));
        assert_eq!(spread(&[9, 5, 1, 4]), Some(wanted));
    }
}
