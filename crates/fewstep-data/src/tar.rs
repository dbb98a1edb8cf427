//! Walking the members of a tar archive, forward only. It knows nothing of samples.
//!
//! The `tar` crate reads the headers. Its own iterator borrows the archive and reads long names without a bound; a
//! loader has to hold many half-read archives and trusts none of them, so the walk from header to header is done here.

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

const BLOCK: u64 = 512;

/// The longest member that describes another one (a long name, PAX attributes) that is believed.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// Why the walk ends before the archive does.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes cannot be read.
    #[error("reading fails at byte {at}: {source}")]
    Read {
        /// The byte of the archive.
        at: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The archive stops within a member.
    #[error("ends early, at byte {at}")]
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// What should be a header is none.
    #[error("is no tar archive, or damaged: {reason} at byte {at}")]
    Header {
        /// Where the header should be.
        at: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A compressed archive.
    #[error(
        "is compressed with {method}, which is not read here: name it as pipe:{method} -dc FILE, or unpack it to a plain .tar"
    )]
    Compressed {
        /// The name of the method and of its program.
        method: &'static str,
    },
}

/// A regular file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path, with what is not UTF-8 replaced.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The byte of the archive at which its first header begins: its own, or one that describes it.
    pub at: u64,
}

/// The walk: [`advance`](Self::advance) to a member, then perhaps [`read`](Self::read) it.
#[derive(Debug)]
pub struct Members<R> {
    reader: R,
    /// Where in the archive the next byte lies.
    at: u64,
    /// Data of the current member not yet consumed.
    data: u64,
    /// Zeros after it, up to the next block.
    padding: u64,
}

impl<R: Read> Members<R> {
    /// At the beginning of the archive that `reader` yields.
    pub fn new(reader: R) -> Self {
        Self::starting_at(0, reader)
    }

    /// At byte `at` of an archive, where a member's first header begins. `reader` yields what follows.
    pub fn starting_at(at: u64, reader: R) -> Self {
        Members {
            reader,
            at,
            data: 0,
            padding: 0,
        }
    }

    /// Goes to the next regular file, skipping folders, links and other kinds; `None` at the end.
    ///
    /// # Errors
    /// After an error the archive cannot be walked any further.
    pub fn advance(&mut self) -> Result<Option<Member>, TarError> {
        let mut long_name = None;
        let mut attributes: Option<Vec<u8>> = None;
        let mut first = self.at;
        loop {
            self.skip(self.data + self.padding)?;
            (self.data, self.padding) = (0, 0);
            if long_name.is_none() && attributes.is_none() {
                first = self.at;
            }
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            let describes =
                kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
            let pax_size = attributes
                .as_deref()
                .filter(|_| !describes)
                .and_then(|a| attribute(a, "size"));
            let size = match pax_size {
                Some(size) => size
                    .parse()
                    .map_err(|_| self.bad_header("a PAX size that is no number"))?,
                None => header
                    .entry_size()
                    .map_err(|error| self.bad_header(&error.to_string()))?,
            };
            if size > u64::MAX / 2 {
                return Err(self.bad_header("an impossible size"));
            }
            self.data = size;
            self.padding = size.next_multiple_of(BLOCK) - size;
            match kind {
                EntryType::GNULongName => long_name = Some(self.description()?),
                EntryType::XHeader => attributes = Some(self.description()?),
                EntryType::GNUSparse => {
                    self.skip_sparse_map(&header)?;
                    (long_name, attributes) = (None, None);
                }
                EntryType::Regular | EntryType::Continuous => {
                    let path = attributes
                        .as_deref()
                        .and_then(|a| attribute(a, "path"))
                        .or_else(|| long_name.map(|name| text(&name)))
                        .unwrap_or_else(|| text(&header.path_bytes()));
                    // Old archives have no kind for folders, only the slash.
                    if !path.ends_with('/') {
                        return Ok(Some(Member {
                            path,
                            size,
                            at: first,
                        }));
                    }
                    (long_name, attributes) = (None, None);
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader => {}
                _ => (long_name, attributes) = (None, None),
            }
        }
    }

    /// The data of the current member, once.
    ///
    /// # Errors
    /// After an error the archive cannot be walked any further.
    pub fn read(&mut self) -> Result<Vec<u8>, TarError> {
        // A header may lie about the size: memory is taken as the bytes arrive.
        let mut bytes = Vec::with_capacity(self.data.min(1 << 20) as usize);
        let got = (&mut self.reader).take(self.data).read_to_end(&mut bytes);
        self.at += bytes.len() as u64;
        got.map_err(|source| TarError::Read { at: self.at, source })?;
        if (bytes.len() as u64) < self.data {
            return Err(TarError::Truncated { at: self.at });
        }
        self.data = 0;
        Ok(bytes)
    }

    /// The next header; `None` at the end, be it marked by zeros or not.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let start = self.at;
        match self.fill(header.as_mut_bytes())? {
            0 => return Ok(None),
            BLOCK => {}
            short => {
                let bytes = &header.as_bytes()[..short as usize];
                return Err(something_else(bytes, start).unwrap_or(TarError::Truncated { at: self.at }));
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The checksum counts its own field as spaces.
        let sum: u32 = bytes
            .iter()
            .enumerate()
            .map(|(i, &byte)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(byte)
                }
            })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(something_else(bytes, start).unwrap_or_else(|| TarError::Header {
                at: start,
                reason: "no valid header".into(),
            }));
        }
        Ok(Some(header))
    }

    /// The data of a member that describes the next one.
    fn description(&mut self) -> Result<Vec<u8>, TarError> {
        if self.data > MAX_DESCRIPTION {
            return Err(self.bad_header("a file name or attributes of more than a mebibyte"));
        }
        self.read()
    }

    /// Skips the headers in which a sparse file lists its holes; they are not counted in its size.
    fn skip_sparse_map(&mut self, header: &Header) -> Result<(), TarError> {
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while more {
            let mut map = tar::GnuExtSparseHeader::new();
            if self.fill(map.as_mut_bytes())? < BLOCK {
                return Err(TarError::Truncated { at: self.at });
            }
            more = map.is_extended();
        }
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<(), TarError> {
        let skipped = io::copy(&mut (&mut self.reader).take(count), &mut io::sink())
            .map_err(|source| TarError::Read { at: self.at, source })?;
        self.at += skipped;
        if skipped < count {
            return Err(TarError::Truncated { at: self.at });
        }
        Ok(())
    }

    /// Fills `buffer` as far as the archive reaches.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<u64, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { at: self.at, source }),
            }
        }
        self.at += filled as u64;
        Ok(filled as u64)
    }

    fn bad_header(&self, reason: &str) -> TarError {
        TarError::Header {
            at: self.at.saturating_sub(BLOCK),
            reason: reason.into(),
        }
    }
}

/// A PAX attribute's value.
fn attribute(attributes: &[u8], key: &str) -> Option<String> {
    PaxExtensions::new(attributes)
        .filter_map(Result::ok)
        .find(|extension| extension.key() == Ok(key))
        .map(|extension| text(extension.value_bytes()))
}

/// A name, without the zero that may end it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// The error for what begins as no archive does: packed once more, or as text, such as a server's own words.
fn something_else(bytes: &[u8], start: u64) -> Option<TarError> {
    /// The longest beginning that is quoted.
    const QUOTED: usize = 80;
    if start > 0 {
        return None;
    }
    let method = match bytes {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        _ => {
            let text = std::str::from_utf8(bytes.get(..QUOTED).unwrap_or(bytes)).ok()?;
            // An archive that was cut within its first header is a name, and a name is seldom several words.
            let is_text = text.trim().contains(char::is_whitespace)
                && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
            return is_text.then(|| TarError::Header {
                at: 0,
                reason: format!("it begins with the words {:?},", text.trim()),
            });
        }
    };
    Some(TarError::Compressed { method })
}
