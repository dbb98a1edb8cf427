//! Why a folder gives no list of pictures. What is wrong with single rows or pictures is dropped and counted instead.

use std::io;
use std::path::PathBuf;

/// Why a folder gives no list of pictures.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// No folder of that name.
    #[error("the folder {} does not exist; name a folder of pictures with captions", folder.display())]
    Missing {
        /// As given.
        folder: PathBuf,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing that holds captions.
    #[error(
        "the folder {} has no captions ({found}); expected are pictures (jpg, png, webp) with a metadata.jsonl or \
         metadata.csv that names them in the column file_name, or with a .txt beside each, or else parquet files \
         with pictures and captions",
        folder.display()
    )]
    NoCaptions {
        /// The folder.
        folder: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// A column that a file does not have.
    #[error("{} has no column {wanted}; its columns are {found}; {remedy}", file.display())]
    Column {
        /// The file.
        file: PathBuf,
        /// The column looked for.
        wanted: String,
        /// The columns there are.
        found: String,
        /// The flag or change that helps.
        remedy: &'static str,
    },
    /// A column of the wrong type.
    #[error("the column {column} of {} holds no {wanted}; {remedy}", file.display())]
    ColumnType {
        /// The file.
        file: PathBuf,
        /// The column.
        column: String,
        /// What it should hold.
        wanted: &'static str,
        /// The flag or change that helps.
        remedy: &'static str,
    },
    /// A parquet file that is none.
    #[error("{} is no parquet file that can be read: {source}", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        source: parquet::errors::ParquetError,
    },
}
