//! One column of a row group as cells: for each row the values in it. It knows nothing of pictures.

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::RowGroupReader;

use super::contained::contained;
use super::pages::Pages;

/// A column of byte strings, read on and on.
pub(super) struct Cells {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The definition level of a value that is there.
    whole: i16,
    /// Whether a row may hold several.
    lists: bool,
}

/// The values in one row: none where it is null or an empty list, several where it is a list.
pub(super) type Cell = Vec<ByteArray>;

impl Cells {
    /// At the beginning of the leaf `column`.
    ///
    /// # Errors
    /// It cannot be read, or holds no byte strings.
    pub(super) fn new(group: &dyn RowGroupReader, column: usize) -> Result<Self, ParquetError> {
        let descriptor = group.metadata().schema_descr().column(column);
        if descriptor.physical_type() != Physical::BYTE_ARRAY {
            return Err(ParquetError::General("the column holds no byte strings".into()));
        }
        let pages = Pages(contained(|| group.get_column_page_reader(column))?);
        Ok(Cells {
            whole: descriptor.max_def_level(),
            lists: descriptor.max_rep_level() > 0,
            reader: ColumnReaderImpl::new(descriptor, Box::new(pages)),
        })
    }

    /// Passes over `rows` cells: where the file says how many rows a page has, whole pages are not even decompressed.
    ///
    /// # Errors
    /// As [`next`](Self::next); the row group has fewer.
    pub(super) fn skip(&mut self, rows: usize) -> Result<(), ParquetError> {
        if contained(|| self.reader.skip_records(rows))? < rows {
            return Err(ParquetError::EOF("a column ends before its last row".into()));
        }
        Ok(())
    }

    /// The next `rows` cells; fewer at the end of the row group.
    ///
    /// # Errors
    /// The file is damaged, or compressed with a method that is not built in.
    pub(super) fn next(&mut self, rows: usize) -> Result<Vec<Cell>, ParquetError> {
        let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        let read = || {
            self.reader
                .read_records(rows, Some(&mut defined), Some(&mut repeated), &mut values)
        };
        let (_, _, levels) = contained(read)?;
        let mut values = values.into_iter();
        let mut cells: Vec<Cell> = Vec::with_capacity(rows);
        for level in 0..levels {
            // A row begins where nothing repeats; a value is there where all of its path is defined.
            if !self.lists || repeated.get(level) == Some(&0) {
                cells.push(Cell::new());
            }
            if self.whole == 0 || defined.get(level) == Some(&self.whole) {
                let lacking = || ParquetError::General("a column has fewer values than it says".into());
                let value = values.next().ok_or_else(lacking)?;
                if let Some(cell) = cells.last_mut() {
                    cell.push(value);
                }
            }
        }
        Ok(cells)
    }
}
