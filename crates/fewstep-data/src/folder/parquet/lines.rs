//! `metadata.parquet`: rows that name a picture and its captions, in a parquet file without pictures.

use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::cells::{Cell, Cells};
use super::{Wanted, leaf, open, rows_of};
use crate::config::PictureFolder;
use crate::drops::Cause;
use crate::folder::FolderError;
use crate::folder::columns::{self, FILE_NAME};
use crate::folder::metadata::{Entry, Line, entry};

/// Rows read at once.
const ROWS: u64 = 1024;

/// The rows of the file at `path`, numbered from 0, whose pictures are named as seen from `base`.
///
/// # Errors
/// It cannot be read, or lacks a column.
pub(in crate::folder) fn lines(
    path: &Path,
    base: &Path,
    folder: &PictureFolder,
) -> Result<Vec<Line>, FolderError> {
    let fail = |source| FolderError::Parquet {
        file: path.into(),
        source,
    };
    let reader = open(path).map_err(fail)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<&str> = schema
        .root_schema()
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    let name = [FILE_NAME, &folder.image_column]
        .into_iter()
        .find(|name| names.contains(name))
        .ok_or_else(|| columns::no_file_name(path, folder, names.iter().copied()))?;
    let picture = leaf(path, schema, name, Wanted::Name)?;
    let caption = leaf(path, schema, &folder.caption_column, Wanted::Caption)?;
    let mut lines = Vec::new();
    for group in 0..reader.num_row_groups() {
        read_group(&reader, group, (picture, caption), |picture, captions| {
            lines.push(Line {
                number: lines.len() as u64,
                entry: row(picture, captions, base),
            });
        })
        .map_err(fail)?;
    }
    Ok(lines)
}

/// Shows every row of a row group to `row`.
fn read_group(
    reader: &SerializedFileReader<std::fs::File>,
    group: usize,
    (picture, caption): (usize, usize),
    mut row: impl FnMut(&Cell, &Cell),
) -> Result<(), ParquetError> {
    let group = reader.get_row_group(group)?;
    let mut pictures = Cells::new(&*group, picture)?;
    let mut captions = Cells::new(&*group, caption)?;
    let mut left = rows_of(group.metadata())?;
    while left > 0 {
        let wanted = left.min(ROWS) as usize;
        let (pictures, captions) = (pictures.next(wanted)?, captions.next(wanted)?);
        if pictures.len() != wanted || captions.len() != wanted {
            return Err(ParquetError::EOF("a column ends before its last row".into()));
        }
        for (picture, captions) in pictures.iter().zip(&captions) {
            row(picture, captions);
        }
        left -= wanted as u64;
    }
    Ok(())
}

fn row(picture: &Cell, captions: &Cell, base: &Path) -> Result<Entry, (Cause, String)> {
    let text = |bytes: &[u8], cause| {
        String::from_utf8(bytes.to_vec()).map_err(|_| (cause, "is not UTF-8".to_owned()))
    };
    let picture = picture
        .first()
        .ok_or((Cause::BadRow, "names no picture".to_owned()))?;
    let picture = text(picture.data(), Cause::BadRow)?;
    let captions = captions
        .iter()
        .map(|caption| text(caption.data(), Cause::CaptionNotUtf8))
        .collect::<Result<_, _>>()?;
    entry(base, &picture, captions)
}
