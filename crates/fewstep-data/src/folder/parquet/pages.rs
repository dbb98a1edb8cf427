//! Pages of a column whose dictionary holds as many byte strings as it says: the parquet library takes memory for as many
//! as are said, before it looks. It knows nothing of what is in them.

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

/// Bytes that the shortest byte string takes in a dictionary: its length.
const SHORTEST: usize = 4;

/// A column's pages, looked at on their way.
pub(super) struct Pages(pub(super) Box<dyn PageReader>);

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        self.0.get_next_page().and_then(possible)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.0.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.0.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        self.0.take_deferred_dictionary().and_then(possible)
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.0.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// The page, unless it is a dictionary that cannot hold what it says.
fn possible(page: Option<Page>) -> Result<Option<Page>, ParquetError> {
    if let Some(Page::DictionaryPage { buf, num_values, .. }) = &page {
        let most = buf.len() / SHORTEST;
        if *num_values as usize > most {
            return Err(ParquetError::General(format!(
                "a dictionary says that it holds {num_values} values, but its {} bytes hold {most} at most",
                buf.len()
            )));
        }
    }
    Ok(page)
}
