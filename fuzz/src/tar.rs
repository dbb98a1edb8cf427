//! Mutations of tar archives: whole members move, come twice or go; and the checksums of headers are put right.

use std::ops::Range;

use ::tar::Header;
use libfuzzer_sys::fuzzer_mutate;

const BLOCK: usize = 512;

/// Mutates the archive in `data[..size]`, and says how long it is then.
#[must_use]
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = match seed % 4 {
        0 => move_member(data, size, max_size, seed / 4),
        _ => fuzzer_mutate(data, size, max_size),
    };
    // A wrong checksum is worth a try too.
    if seed % 16 != 1 {
        for member in members(&data[..size]) {
            let header = &mut data[member][..BLOCK];
            let mut right = Header::from_byte_slice(header).clone();
            right.set_cksum();
            header.copy_from_slice(right.as_bytes());
        }
    }
    size
}

/// Takes a member, header and data, from one place to another, or lets it come twice, or go.
fn move_member(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let members = members(&data[..size]);
    let Some(from) = members.get(seed as usize % members.len().max(1)).cloned() else {
        return fuzzer_mutate(data, size, max_size);
    };
    let seed = seed as usize / members.len();
    let to = members[seed % members.len()].start;
    let kind = seed / members.len() % 3;
    let moved = data[from.clone()].to_vec();
    let mut archive = data[..size].to_vec();
    if kind < 2 {
        archive.splice(to..to, moved);
    }
    if kind > 0 {
        let shift = if kind == 1 && to <= from.start {
            from.len()
        } else {
            0
        };
        archive.drain(from.start + shift..from.end + shift);
    }
    let size = archive.len().min(max_size);
    data[..size].copy_from_slice(&archive[..size]);
    size
}

/// Where the members lie, as their headers say.
fn members(archive: &[u8]) -> Vec<Range<usize>> {
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(block) = archive.get(at..at + BLOCK) {
        let stated = Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let stated = usize::try_from(stated).unwrap_or(usize::MAX).min(archive.len());
        let end = (at + BLOCK + stated.next_multiple_of(BLOCK)).min(archive.len());
        if block.iter().any(|&byte| byte != 0) {
            members.push(at..end);
        }
        at = end;
    }
    members
}
