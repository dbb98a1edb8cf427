//! Compressed archives, read as what they hold: gzip and zstd, known by how they begin and not by their names. It knows
//! no tar.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::OnceLock;

use flate2::bufread::MultiGzDecoder;

use super::{Source, skip};

/// As many first bytes as tell the methods apart.
const MAGIC_BYTES: usize = 4;

/// What the decoders read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A source whose archive may be compressed.
pub(super) struct Unpacked<S> {
    packed: S,
    /// Known once it has been opened.
    method: OnceLock<Method>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Plain,
    Gzip,
    Zstd,
}

impl Method {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Method::Gzip,
            // The second is a frame to be skipped, with which parallel compressors begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Method::Zstd,
            _ => Method::Plain,
        }
    }
}

impl<S: Source> Unpacked<S> {
    /// What `packed` holds.
    pub(super) fn new(packed: S) -> Self {
        Unpacked {
            packed,
            method: OnceLock::new(),
        }
    }

    /// Opens the source, and reads enough of it to know how it is packed.
    fn look(&self) -> io::Result<(Method, Box<dyn Read + Send>)> {
        let mut reader = self.packed.open()?;
        let mut start = Vec::with_capacity(MAGIC_BYTES);
        (&mut reader).take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
        let method = Method::of(&start);
        let _ = self.method.set(method);
        Ok((method, Box::new(Cursor::new(start).chain(reader))))
    }
}

impl<S: Source> Source for Unpacked<S> {
    fn name(&self) -> &str {
        self.packed.name()
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let (method, reader) = self.look()?;
        let buffered = |reader| BufReader::with_capacity(BUFFER_BYTES, reader);
        Ok(match method {
            Method::Plain => reader,
            Method::Gzip => Box::new(MultiGzDecoder::new(buffered(reader))),
            Method::Zstd => Box::new(zstd::Decoder::with_buffer(buffered(reader))?),
        })
    }

    fn open_at(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        if at == 0 {
            return self.open();
        }
        if self.packed.seeks() {
            let method = match self.method.get() {
                Some(&method) => method,
                None => self.look()?.0,
            };
            if method == Method::Plain {
                return self.packed.open_at(at);
            }
        }
        let mut reader = self.open()?;
        skip(&mut reader, at)?;
        Ok(reader)
    }

    /// For one that has not been opened yet the name has to do: it costs nothing to be wrong.
    fn seeks(&self) -> bool {
        let is_plain = || {
            let name = self.name().to_ascii_lowercase();
            !["gz", "tgz", "zst", "tzst"]
                .iter()
                .any(|end| name.ends_with(&format!(".{end}")))
        };
        let plain = self
            .method
            .get()
            .map_or_else(is_plain, |&method| method == Method::Plain);
        plain && self.packed.seeks()
    }
}

impl<S: Source> fmt::Debug for Unpacked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packed.fmt(f)
    }
}
