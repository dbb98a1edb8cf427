//! The framing of a Weights & Biases file: LevelDB's log (blocks of 32 KiB, records split at their ends) after a short
//! header of its own, with plain CRC-32 for a checksum. It knows no records' contents.

/// What the file begins with: its mark, a number, a version.
pub(super) const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];

const BLOCK: usize = 32 * 1024;
/// Checksum, length and kind of a piece.
const PIECE_HEADER: usize = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A record as it lies in the file from byte `place` on.
pub(super) fn framed(data: &[u8], place: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 2 * PIECE_HEADER);
    let mut rest = data;
    let mut kinds = [WHOLE, FIRST];
    loop {
        let within = ((place + out.len() as u64) % BLOCK as u64) as usize;
        let left = BLOCK - within;
        if left < PIECE_HEADER {
            out.resize(out.len() + left, 0);
            continue;
        }
        let (piece, more) = rest.split_at(rest.len().min(left - PIECE_HEADER));
        let kind = if more.is_empty() { kinds[0] } else { kinds[1] };
        out.extend(checksum(kind, piece).to_le_bytes());
        // A piece fits into its block, whose length fits into 16 bits.
        out.extend((piece.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend(piece);
        rest = more;
        kinds = [LAST, MIDDLE];
        if rest.is_empty() {
            return out;
        }
    }
}

/// The whole records of a file, each with the place where it ends; what follows a broken one is left out.
pub(super) fn records(file: &[u8]) -> impl Iterator<Item = (Vec<u8>, u64)> {
    let mut place = match file.starts_with(&HEADER) {
        true => HEADER.len(),
        false => file.len(),
    };
    std::iter::from_fn(move || {
        let mut record = Vec::new();
        loop {
            let left = BLOCK - place % BLOCK;
            if left < PIECE_HEADER {
                place += left;
                continue;
            }
            let header = file.get(place..place + PIECE_HEADER)?;
            let sum = u32::from_le_bytes(header[..4].try_into().ok()?);
            let len = usize::from(u16::from_le_bytes(header[4..6].try_into().ok()?));
            let piece = file.get(place + PIECE_HEADER..place + PIECE_HEADER + len)?;
            let kind = header[6];
            let begins = matches!(kind, WHOLE | FIRST);
            if checksum(kind, piece) != sum || begins != record.is_empty() {
                return None;
            }
            record.extend(piece);
            place += PIECE_HEADER + len;
            if matches!(kind, WHOLE | LAST) {
                return Some((record, place as u64));
            }
        }
    })
}

fn checksum(kind: u8, piece: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(piece);
    sum.finalize()
}
