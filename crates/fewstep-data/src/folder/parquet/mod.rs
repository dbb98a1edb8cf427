//! Parquet files as `datasets` writes them: a column of pictures, a column of captions. A row group is a shard, for
//! that is the part of such a file that can be read from its beginning.
//!
//! A picture is a struct of `bytes` and `path`, or plain bytes; a caption is a text or a list of texts.

mod cells;
mod contained;
mod footer;
mod lines;
mod pages;
mod rows;

pub(super) use lines::lines;

use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::FolderError;
use super::columns::{CAPTION_REMEDY, IMAGE_REMEDY, no_column};
use crate::config::{Limits, PictureFolder};
use crate::place::Place;
use crate::shard::{Finds, Shard};
use cells::Cells;
use contained::contained;
use rows::Rows;

/// Consecutive rows of a parquet file.
#[derive(Debug)]
pub(super) struct RowGroup {
    path: Arc<Path>,
    /// The file, for messages.
    file: Arc<str>,
    name: String,
    /// The file's path within the folder, as bytes, and the row group's size.
    fingerprint: (Arc<[u8]>, i64),
    index: usize,
    /// The number of its first row in the file, from 0.
    first: u64,
    rows: u64,
    columns: Columns,
}

/// The places of the two leaf columns.
#[derive(Debug, Clone, Copy)]
struct Columns {
    image: usize,
    caption: usize,
}

/// The row groups of the parquet file `file` of `folder`, in its order. Of the file it reads the footer alone.
///
/// # Errors
/// It is no parquet file, or lacks a column.
pub(super) fn row_groups(file: &Path, folder: &PictureFolder) -> Result<Vec<RowGroup>, FolderError> {
    let within: Arc<[u8]> = file.as_os_str().as_encoded_bytes().into();
    let path = &folder.path.join(file);
    let fail = |source| FolderError::Parquet {
        file: path.into(),
        source,
    };
    let reader = open(path).map_err(fail)?;
    let metadata = reader.metadata();
    let columns = columns(path, metadata.file_metadata().schema_descr(), folder)?;
    let shared: Arc<Path> = path.as_path().into();
    let file: Arc<str> = path.display().to_string().into();
    let mut first = 0u64;
    let mut groups = Vec::new();
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = rows_of(group).map_err(fail)?;
        let after = first.checked_add(rows);
        let beyond = || ParquetError::General("its row groups claim more rows than can be counted".into());
        let after = after.ok_or_else(|| fail(beyond()))?;
        if rows > 0 {
            groups.push(RowGroup {
                path: Arc::clone(&shared),
                file: Arc::clone(&file),
                name: format!("{file}, rows {first} to {}", after - 1),
                fingerprint: (Arc::clone(&within), group.compressed_size()),
                index,
                first,
                rows,
                columns,
            });
        }
        first = after;
    }
    Ok(groups)
}

/// The number of its rows, as the footer claims.
fn rows_of(group: &RowGroupMetaData) -> Result<u64, ParquetError> {
    let rows = group.num_rows();
    let wrong = |_| ParquetError::General(format!("a row group claims {rows} rows"));
    u64::try_from(rows).map_err(wrong)
}

impl Shard for RowGroup {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        let (within, bytes) = &self.fingerprint;
        hasher.write(within);
        for number in [self.first, self.rows, bytes.unsigned_abs()] {
            hasher.write(&number.to_le_bytes());
        }
    }

    fn samples(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn open(&self, from: Place, limits: &Limits) -> io::Result<Finds> {
        let reader = open(&self.path)?;
        let group = reader.get_row_group(self.index)?;
        let images = Cells::new(&*group, self.columns.image)?;
        let captions = Cells::new(&*group, self.columns.caption)?;
        let mut rows = Rows::new(self, images, captions, limits.max_member_bytes);
        rows.skip_to(from.ordinal)?;
        Ok(Box::new(rows))
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, ParquetError> {
    contained(|| {
        let file = File::open(path)?;
        footer::check(&file)?;
        SerializedFileReader::new(file)
    })
}

fn columns(path: &Path, schema: &SchemaDescriptor, folder: &PictureFolder) -> Result<Columns, FolderError> {
    Ok(Columns {
        image: leaf(path, schema, &folder.image_column, Wanted::Picture)?,
        caption: leaf(path, schema, &folder.caption_column, Wanted::Caption)?,
    })
}

/// What a column is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Picture,
    Name,
    Caption,
}

impl Wanted {
    fn remedy(self) -> &'static str {
        match self {
            Wanted::Picture | Wanted::Name => IMAGE_REMEDY,
            Wanted::Caption => CAPTION_REMEDY,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Wanted::Picture => "pictures (bytes, or a struct of bytes and path)",
            Wanted::Name => "names of files",
            Wanted::Caption => "texts",
        }
    }

    /// Whether the leaf with these names, below its column's own, and this many levels of lists is it.
    fn fits(self, below: &[String], lists: i16) -> bool {
        match self {
            Wanted::Picture => lists == 0 && (below.is_empty() || below == ["bytes"]),
            Wanted::Name => lists == 0 && below.is_empty(),
            Wanted::Caption => below.is_empty() && lists == 0 || lists == 1 && below.len() == 2,
        }
    }
}

/// The place of the leaf that holds the bytes of `column`.
fn leaf(path: &Path, schema: &SchemaDescriptor, column: &str, wanted: Wanted) -> Result<usize, FolderError> {
    let names = schema.root_schema().get_fields().iter().map(|field| field.name());
    if !names.clone().any(|name| name == column) {
        return Err(no_column(path, column.to_owned(), names, wanted.remedy()));
    }
    schema
        .columns()
        .iter()
        .position(|leaf| {
            let parts = leaf.path().parts();
            leaf.physical_type() == Physical::BYTE_ARRAY
                && parts.first().is_some_and(|name| name == column)
                && wanted.fits(&parts[1..], leaf.max_rep_level())
        })
        .ok_or_else(|| FolderError::ColumnType {
            file: PathBuf::from(path),
            column: column.to_owned(),
            wanted: wanted.words(),
            remedy: wanted.remedy(),
        })
}
