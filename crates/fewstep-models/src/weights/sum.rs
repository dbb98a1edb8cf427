//! Sums over the bytes of a file (XXH3, 64 bits), taken while it is written, by which damage is found later.
//!
//! They find what a disk or a copy has changed by accident. They are no signature: who may write the file may
//! write its sum as well.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::path::Path;

use twox_hash::XxHash3_64;

/// Read at once when a file is summed.
const CHUNK: usize = 1 << 20;

/// What a file holds: how many bytes, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its length.
    pub bytes: u64,
    /// XXH3 (64 bits, seed 0) of all of it.
    pub xxh3: u64,
}

impl Written {
    /// What a file on the disk holds now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut summing = Summing::new(io::sink());
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(summing.written()),
                Ok(count) => summing.write_all(&chunk[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What these bytes are.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Written {
            bytes: bytes.len() as u64,
            xxh3: XxHash3_64::oneshot(bytes),
        }
    }
}

/// A writer that counts and sums what goes through it.
pub(super) struct Summing<W> {
    inner: W,
    bytes: u64,
    sum: XxHash3_64,
}

impl<W> Summing<W> {
    pub(super) fn new(inner: W) -> Self {
        Summing {
            inner,
            bytes: 0,
            sum: XxHash3_64::new(),
        }
    }

    pub(super) fn get_ref(&self) -> &W {
        &self.inner
    }

    pub(super) fn written(&self) -> Written {
        Written {
            bytes: self.bytes,
            xxh3: self.sum.finish(),
        }
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        Hasher::write(&mut self.sum, &bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_xxh3_however_the_bytes_come() {
        // The published test vector of no bytes.
        assert_eq!(Written::of_bytes(b"").xxh3, 0x2d06_8005_38d3_94c2);
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let whole = Written::of_bytes(&bytes);
        let mut pieces = Summing::new(Vec::new());
        for piece in bytes.chunks(100_003) {
            pieces.write_all(piece).unwrap();
        }
        assert_eq!(pieces.written(), whole);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Written::of_file(&path).unwrap(), whole);
        let mut damaged = bytes;
        damaged[2_345_678] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_ne!(Written::of_file(&path).unwrap(), whole);
    }
}
