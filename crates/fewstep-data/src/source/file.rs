//! Shards that are local files.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Source;

/// Enough for the headers of many small members at once; larger members bypass the buffer.
const BUFFER_BYTES: usize = 256 << 10;

/// A local file.
#[derive(Debug, Clone)]
pub struct File {
    path: PathBuf,
    name: String,
}

impl File {
    /// The file at `path`, which need not exist yet: a missing file shows when it is opened.
    pub fn new(path: &Path) -> Self {
        File {
            path: path.to_path_buf(),
            name: path.display().to_string(),
        }
    }
}

impl Source for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = std::fs::File::open(&self.path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "is a folder, not a file",
            ));
        }
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)))
    }
}
