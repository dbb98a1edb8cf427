//! The rows of a row group as samples, a few at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use parquet::errors::ParquetError;

use super::RowGroup;
use super::cells::{Cell, Cells};
use crate::caption;
use crate::drops::{Cause, Dropped};
use crate::place::Place;
use crate::sample::{Found, Sample};

/// Rows read at once: pictures are large, and the shuffle window keeps enough of them.
const ROWS: u64 = 16;

/// The finds of a row group. One that breaks off yields what came before, and then one [`Cause::BrokenShard`].
pub(super) struct Rows {
    file: Arc<str>,
    group: String,
    /// The number of the first row in the file.
    first: u64,
    /// The number of the next one that is read.
    next: u64,
    /// Rows not read yet.
    left: u64,
    images: Cells,
    captions: Cells,
    max_bytes: u64,
    ready: VecDeque<(Place, Found)>,
}

impl Rows {
    pub(super) fn new(group: &RowGroup, images: Cells, captions: Cells, max_bytes: u64) -> Self {
        Rows {
            file: Arc::clone(&group.file),
            group: group.name.clone(),
            first: group.first,
            next: group.first,
            left: group.rows,
            images,
            captions,
            max_bytes,
            ready: VecDeque::new(),
        }
    }

    /// Passes over the first `count` rows.
    ///
    /// # Errors
    /// There are fewer, or the file is damaged.
    pub(super) fn skip_to(&mut self, count: u64) -> Result<(), ParquetError> {
        let rows = usize::try_from(count).unwrap_or(usize::MAX);
        // The row after the last one is where a row group that broke off was dropped.
        self.left = self
            .left
            .checked_sub(count)
            .ok_or_else(|| ParquetError::EOF(format!("it has only {} rows", self.left)))?;
        self.images.skip(rows)?;
        self.captions.skip(rows)?;
        self.next += count;
        Ok(())
    }

    fn advance(&mut self) -> Result<(), ParquetError> {
        // Up to the same rows whatever the first one was: where a row group breaks off does not depend on it.
        let wanted = self.left.min(ROWS - (self.next - self.first) % ROWS);
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
            self.ready.push_back((self.place(), found));
            self.next += 1;
        }
        self.left -= wanted;
        Ok(())
    }

    /// Of the next row.
    fn place(&self) -> Place {
        Place {
            ordinal: self.next - self.first,
            at: 0,
        }
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
            .map(|caption| caption::from_file(caption.data().to_vec()))
            .collect::<Option<_>>()
            .ok_or_else(|| (Cause::CaptionNotUtf8, "has a caption that is not UTF-8".into()))?;
        let key = format!("row {}", self.next);
        Sample::new(&self.file, key, image.data().to_vec(), captions)
    }
}

impl Iterator for Rows {
    type Item = (Place, Found);

    fn next(&mut self) -> Option<(Place, Found)> {
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
                let dropped = Dropped::new(Cause::BrokenShard, &example);
                return Some((self.place(), Found::Dropped(dropped)));
            }
        }
    }
}
