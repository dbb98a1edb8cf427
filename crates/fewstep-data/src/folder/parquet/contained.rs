//! Where the parquet library's panics become errors: it has some for files that are damaged on purpose. It knows nothing
//! of what is read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

/// What `work` returns, or an error where it panics. What it was working on is not used again then: each reader ends at
/// its first error.
///
/// # Errors
/// As `work`.
pub(super) fn contained<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let texts = (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>());
        let text = match texts {
            (Some(text), _) => text,
            (None, Some(text)) => *text,
            (None, None) => "no word why",
        };
        Err(ParquetError::General(format!(
            "the file is damaged where the parquet library does not expect it ({text})"
        )))
    })
}
