//! The rows of a row group as samples, a few at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use parquet::errors::ParquetError;

use super::RowGroup;
use super::cells::{Cell, Cells};
use crate::drops::{Cause, Dropped};
use crate::sample::{Found, Sample};

/// Rows read at once: pictures are large, and the shuffle window keeps enough of them.
const ROWS: u64 = 16;

/// The finds of a row group. One that breaks off yields what came before, and then one [`Cause::BrokenShard`].
pub(super) struct Rows {
    file: Arc<str>,
    group: String,
    /// The number of the next row in the file.
    next: u64,
    /// Rows not read yet.
    left: u64,
    images: Cells,
    captions: Cells,
    max_bytes: u64,
    ready: VecDeque<Found>,
}

impl Rows {
    pub(super) fn new(group: &RowGroup, images: Cells, captions: Cells, max_bytes: u64) -> Self {
        Rows {
            file: Arc::clone(&group.file),
            group: group.name.clone(),
            next: group.first,
            left: group.rows,
            images,
            captions,
            max_bytes,
            ready: VecDeque::new(),
        }
    }

    fn advance(&mut self) -> Result<(), ParquetError> {
        let wanted = self.left.min(ROWS);
        let images = self.images.next(wanted as usize)?;
        let captions = self.captions.next(wanted as usize)?;
        if images.len() as u64 != wanted || captions.len() as u64 != wanted {
            return Err(ParquetError::EOF("a column ends before its last row".into()));
        }
        for (image, captions) in images.into_iter().zip(captions) {
            let found = match self.sample(image, captions) {
                Ok(sample) => Found::Sample(sample),
                Err((cause, why)) => {
                    let example = format!("{}: row {} {why}", self.file, self.next);
                    Found::Dropped(Dropped::new(cause, &example))
                }
            };
            self.ready.push_back(found);
            self.next += 1;
        }
        self.left -= wanted;
        Ok(())
    }

    fn sample(&self, image: Cell, captions: Cell) -> Result<Sample, (Cause, String)> {
        let Some(image) = image.first() else {
            return Err((Cause::MissingImage, "holds no bytes of a picture".into()));
        };
        if image.len() as u64 > self.max_bytes {
            let why = format!(
                "has a picture of {} bytes, the limit is {}",
                image.len(),
                self.max_bytes
            );
            return Err((Cause::OversizedMember, why));
        }
        if captions.is_empty() {
            return Err((Cause::MissingCaption, "has an empty caption column".into()));
        }
        let captions = captions
            .iter()
            .map(|caption| String::from_utf8(caption.data().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| (Cause::CaptionNotUtf8, "has a caption that is not UTF-8".into()))?;
        Ok(Sample {
            shard: Arc::clone(&self.file),
            key: format!("row {}", self.next),
            image: image.data().to_vec(),
            captions,
        })
    }
}

impl Iterator for Rows {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            if self.left == 0 {
                return None;
            }
            if let Err(error) = self.advance() {
                self.left = 0;
                let example = format!("{}, from row {}: {error}", self.group, self.next);
                return Some(Found::Dropped(Dropped::new(Cause::BrokenShard, &example)));
            }
        }
    }
}
