//! Walking archives: every way of writing a name, and every way of being broken.

#![allow(clippy::unwrap_used)]

mod common;

use common::archive;
use fewstep_data::tar::{Members, TarError};
use tar::{Builder, EntryType, Header};

/// Paths and contents of all members, and the error that ended the walk.
fn walk(bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, Option<TarError>) {
    let mut members = Members::new(bytes);
    let mut found = Vec::new();
    loop {
        match members.advance() {
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
            Ok(Some(member)) => match members.read() {
                Ok(data) => found.push((member.path, data)),
                Err(error) => return (found, Some(error)),
            },
        }
    }
}

fn names(bytes: &[u8]) -> Vec<String> {
    let (members, error) = walk(bytes);
    assert!(error.is_none(), "{error:?}");
    members.into_iter().map(|(path, _)| path).collect()
}

fn header(kind: EntryType, path: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(path).unwrap();
    header.set_size(size);
    header.set_cksum();
    header
}

/// A block of 512 bytes that begins with `data`.
fn block(data: &[u8]) -> Vec<u8> {
    let mut block = data.to_vec();
    block.resize(data.len().next_multiple_of(512), 0);
    block
}

#[test]
fn members_are_read_or_skipped() {
    let long = format!("{}/{}.txt", "folder".repeat(20), "name".repeat(30));
    let bytes = archive(&[
        ("a.txt", b"one"),
        ("empty.txt", b""),
        (&long, &[7; 1500]),
        ("é.txt", b"x"),
    ]);
    let (members, error) = walk(&bytes);
    assert!(error.is_none());
    assert_eq!(members[0], ("a.txt".into(), b"one".to_vec()));
    assert_eq!(members[1], ("empty.txt".into(), Vec::new()));
    assert_eq!(members[2], (long, vec![7; 1500]));
    assert_eq!(members[3].0, "é.txt");
    let mut skipping = Members::new(bytes.as_slice());
    let mut sizes = Vec::new();
    while let Some(member) = skipping.advance().unwrap() {
        sizes.push(member.size);
    }
    assert_eq!(sizes, [3, 0, 1500, 1]);
}

#[test]
fn pax_names_and_sizes_count() {
    let path = format!("{}.txt", "päx".repeat(60));
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([("path", path.as_bytes()), ("size", b"3")])
        .unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    // The header's own size is wrong; the attribute's counts.
    bytes.extend(header(EntryType::Regular, "short", 0).as_bytes());
    bytes.extend(block(b"abc"));
    bytes.extend(archive(&[("next.txt", b"n")]));
    let (members, error) = walk(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        members,
        [(path, b"abc".to_vec()), ("next.txt".into(), b"n".to_vec())]
    );
}

#[test]
fn what_is_no_regular_file_is_skipped() {
    let mut bytes = Vec::new();
    bytes.extend(header(EntryType::Directory, "folder/", 0).as_bytes());
    bytes.extend(header(EntryType::Regular, "old_folder/", 0).as_bytes());
    let mut link = header(EntryType::Symlink, "link.txt", 0);
    link.set_link_name("/etc/passwd").unwrap();
    link.set_cksum();
    bytes.extend(link.as_bytes());
    bytes.extend(header(EntryType::Fifo, "fifo.txt", 0).as_bytes());
    // A sparse file whose list of holes goes on in another block, which its size does not count.
    let mut sparse = header(EntryType::GNUSparse, "sparse.bin", 5);
    sparse.as_gnu_mut().unwrap().set_is_extended(true);
    sparse.set_cksum();
    bytes.extend(sparse.as_bytes());
    bytes.extend(block(&[0; 512]));
    bytes.extend(block(b"holes"));
    bytes.extend(archive(&[("a.txt", b"a")]));
    assert_eq!(names(&bytes), ["a.txt"]);
}

#[test]
fn the_end_may_be_marked_or_not() {
    let marked = archive(&[("a.txt", b"a")]);
    assert_eq!(names(&marked), ["a.txt"]);
    assert_eq!(names(&marked[..1024]), ["a.txt"]);
    assert_eq!(names(&marked[..1536]), ["a.txt"]);
    assert!(names(&[]).is_empty());
}

#[test]
fn a_cut_anywhere_loses_only_what_comes_after() {
    let bytes = archive(&[("a.txt", &[1; 600]), ("b.txt", &[2; 10]), ("c.txt", &[3; 512])]);
    let (whole, _) = walk(&bytes);
    let ends = [512 + 600, 1536 + 512 + 10, 2560 + 512 + 512];
    for cut in 0..bytes.len() {
        let (members, error) = walk(&bytes[..cut]);
        let complete = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(members, whole[..complete], "cut at {cut}");
        // At the edge of a member an archive without an end mark looks whole.
        let at_edge = [0, 1536, 2560, 3584].contains(&cut) || cut >= 4096;
        assert_eq!(error.is_none(), at_edge, "cut at {cut}: {error:?}");
        if let Some(error) = error {
            assert!(
                matches!(error, TarError::Truncated { .. }),
                "cut at {cut}: {error}"
            );
        }
    }
}

#[test]
fn what_is_no_archive_is_named() {
    let message = |bytes: &[u8]| walk(bytes).1.unwrap().to_string();
    assert!(message(&[0x1f, 0x8b, 8, 0]).contains("gzip"));
    assert!(message(&block(&[0x28, 0xb5, 0x2f, 0xfd])).contains("zstd"));
    assert!(message(&block(b"<html>")).contains("no tar archive"));
    let mut bytes = archive(&[("a.txt", b"a"), ("b.txt", b"b")]);
    bytes[1024 + 5] ^= 1;
    let (members, error) = walk(&bytes);
    assert_eq!(members.len(), 1);
    assert!(
        matches!(error, Some(TarError::Header { at: 1024, .. })),
        "{error:?}"
    );
}

#[test]
fn impossible_headers_are_refused() {
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let mut bytes = header(kind, "x", 2 << 20).as_bytes().to_vec();
        bytes.extend(vec![b'a'; 3 << 20]);
        let (members, error) = walk(&bytes);
        assert!(members.is_empty());
        assert!(error.unwrap().to_string().contains("mebibyte"));
    }
    // A member that claims 8 EiB takes no memory before its bytes arrive.
    let (_, error) = walk(header(EntryType::Regular, "huge.jpg", u64::MAX / 2).as_bytes());
    assert!(matches!(error, Some(TarError::Truncated { .. })));
    let (_, error) = walk(header(EntryType::Regular, "huge.jpg", u64::MAX).as_bytes());
    assert!(matches!(error, Some(TarError::Header { .. })), "{error:?}");
}

#[test]
fn no_corruption_makes_it_panic_or_run_on() {
    let sound = archive(&[("a.jpg", &[1; 700]), ("a.txt", b"text"), ("b.jpg", &[2; 30])]);
    let mut draws = fewstep_draw::Stream::new(1, fewstep_draw::Purpose::World, 0);
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..=draws.below(4) {
            let at = draws.below(bytes.len() as u64) as usize;
            bytes[at] = draws.below(256) as u8;
        }
        // With a checksum that is right again the damage gets past the first check.
        for start in [0, 1536, 2560] {
            let mut header = Header::from_byte_slice(&bytes[start..start + 512]).clone();
            header.set_cksum();
            bytes[start..start + 512].copy_from_slice(header.as_bytes());
        }
        let (members, _) = walk(&bytes);
        assert!(members.len() <= 10);
    }
}
