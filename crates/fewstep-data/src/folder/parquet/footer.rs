//! Whether a parquet file's footer holds what it says that it holds: the parquet library takes memory for as many columns
//! as a group of them claims, before it looks for them. Of the footer's encoding (Thrift's compact protocol) it knows how
//! to walk over it; what the footer means is the library's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::errors::ParquetError;

/// The file's last bytes: the footer's length, and `PAR1`.
const END: usize = 8;

/// Structs in structs, at most: parquet's own are four deep.
const DEPTH: u32 = 16;

/// A footer's list of columns and groups of columns, and the number of members in such a group.
const SCHEMA: u64 = 2;
const NUM_CHILDREN: u64 = 5;

const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Looks through the footer of `file`. What has none is left to the library to refuse.
///
/// # Errors
/// The footer ends before all that it announces, or claims columns that it does not list.
pub(super) fn check(mut file: &File) -> Result<(), ParquetError> {
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub(END as u64) else {
        return Ok(());
    };
    let mut last = [0; END];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut last)?;
    let (size, magic) = last.split_at(4);
    let size = size
        .iter()
        .rev()
        .fold(0, |size, &byte| size << 8 | u64::from(byte));
    if magic != b"PAR1" || size > end {
        return Ok(());
    }
    let mut footer = Vec::new();
    file.seek(SeekFrom::Start(end - size))?;
    file.take(size).read_to_end(&mut footer)?;
    look_through(&footer).map_err(|why| ParquetError::General(format!("its footer {why}")))
}

/// Walks over the footer to its end.
///
/// # Errors
/// What is wrong with it.
fn look_through(footer: &[u8]) -> Result<(), &'static str> {
    let mut possible = true;
    let walked = Walk(footer).fields(|walk, field, kind| {
        if (field, kind) != (SCHEMA, LIST) {
            return walk.skip(kind, DEPTH);
        }
        let (kind, listed) = walk.list()?;
        for _ in 0..listed {
            if kind != STRUCT {
                walk.element(kind, DEPTH)?;
                continue;
            }
            walk.fields(|walk, field, kind| {
                if field != NUM_CHILDREN || !(4..=6).contains(&kind) {
                    return walk.skip(kind, DEPTH);
                }
                // Signed numbers are folded, the sign being the lowest bit: none may be below zero, nor be taken for
                // another one where the library cuts it to 32 bits.
                let folded = walk.number()?;
                possible = folded & 1 == 0 && folded / 2 <= listed;
                possible.then_some(())
            })?;
        }
        Some(())
    });
    match (possible, walked) {
        (true, Some(())) => Ok(()),
        (true, None) => Err("ends before all that it announces, or is damaged"),
        (false, _) => Err("claims a number of columns that it does not list"),
    }
}

/// What is left of some bytes. Everything is `None` where they end too early.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    /// A number of up to 64 bits, seven of them a byte.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// The kind of a list's elements, and how many there are.
    fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.number()?,
            few => u64::from(few),
        };
        Some((head & 15, count))
    }

    /// Shows the number and kind of each field of a struct, whose value is to be walked over.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, u64, u8) -> Option<()>) -> Option<()> {
        let mut number = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            number = match head >> 4 {
                0 => self.number()? / 2,
                step => u64::checked_add(number, u64::from(step))?,
            };
            field(self, number, head & 15)?;
        }
    }

    /// Walks over a field's value: one of the kinds 1 and 2 (true and false) has no bytes.
    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1 | 2 => Some(()),
            _ => self.element(kind, depth),
        }
    }

    /// Walks over an element of a list.
    fn element(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1..=3 => self.bytes(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.bytes(8),
            8 => {
                let count = self.number()?;
                self.bytes(count)
            }
            LIST | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.element(kind, depth))
            }
            11 => {
                let count = self.number()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 15, depth)
                })
            }
            STRUCT => self.fields(|walk, _, kind| walk.skip(kind, depth)),
            13 => self.bytes(16),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer with a version, two columns below a root that claims `children` of them, and what else there is of kinds.
    fn footer(children: &[u8]) -> Vec<u8> {
        let root = [&[0x48, 1, b'r', 0x15], children, &[0]].concat();
        let column = [0x48, 1, b'c', 0];
        let others = [
            0x18, 2, b'b', b'y', 0x11, 0x17, 1, 2, 3, 4, 5, 6, 7, 8, 0x1b, 1, 0x58, 4, 1, b'v', 0,
        ];
        [&[0x15, 2, 0x19, 0x3c], &root[..], &column, &column, &others].concat()
    }

    #[test]
    fn groups_have_no_more_members_than_there_are() {
        assert_eq!(look_through(&footer(&[4])), Ok(()));
        let beyond: [&[u8]; 4] = [
            &[8],
            &[0xfe, 0xff, 0xff, 0xff, 0x0f],
            // Below zero, and a number below zero that 32 bits cut to one above.
            &[1],
            &[0xff, 0xff, 0xff, 0xff, 0x17],
        ];
        for children in beyond {
            let why = look_through(&footer(children)).unwrap_err();
            assert!(why.contains("does not list"), "{children:?}: {why}");
        }
    }

    #[test]
    fn a_footer_is_walked_over_to_its_end() {
        let whole = footer(&[4]);
        for length in 0..whole.len() {
            let why = look_through(&whole[..length]).unwrap_err();
            assert!(why.contains("ends before"), "of the first {length} bytes: {why}");
        }
        // Lists in lists without end, and a list of more than there is.
        assert!(look_through(&[[0x19].as_slice(), &[0x19; 100]].concat()).is_err());
        assert!(look_through(&[0x19, 0xf3, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
    }
}
