//! Shards that are local files.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Source, skip, too_short};

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
        self.open_at(0)
    }

    fn open_at(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = std::fs::File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "is a folder, not a file",
            ));
        }
        if metadata.is_file() {
            if at > metadata.len() {
                return Err(too_short(metadata.len(), at));
            }
            file.seek(SeekFrom::Start(at))?;
        } else {
            // A named pipe is a file too, and can only be read.
            skip(&mut file, at)?;
        }
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)))
    }

    /// A named pipe does not.
    fn seeks(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(file: &File, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.open_at(at)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn opens_anywhere_up_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let bytes: Vec<u8> = (0..=255).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::new(&path);
        assert!(file.seeks());
        for at in [0, 1, 255, 256] {
            assert_eq!(rest(&file, at).unwrap(), bytes[at as usize..]);
        }
        let message = rest(&file, 257).unwrap_err().to_string();
        assert!(message.contains("has only 256 bytes"), "{message}");
    }
}
