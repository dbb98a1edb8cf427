//! Compressed shards give what plain ones give.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;

use common::server::{Reply, Server, Stop};
use common::{Folder, batches, bytes_from, captions, causes, config_of, eager, first, sound_shard};
use fewstep_data::{Cause, DataError, Loader};
use flate2::Compression;
use flate2::write::GzEncoder;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Every way of packing; the names of the files say nothing.
fn packed(shard: &[u8]) -> Vec<Vec<u8>> {
    let (start, end) = shard.split_at(shard.len() / 3);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &zstd(end)[..]].concat();
    vec![
        shard.to_vec(),
        gzip(shard),
        [gzip(start), gzip(end)].concat(),
        zstd(shard),
        [zstd(start), skipped].concat(),
        [vec![0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], zstd(shard)].concat(),
    ]
}

#[test]
fn packed_shards_give_what_plain_ones_give() {
    let shard = sound_shard(0, 5);
    let folder = Folder::of(&packed(&shard));
    let mut loader = Loader::new(folder.config()).unwrap();
    let mut read = captions(&batches(&mut loader, 10));
    read.sort_unstable();
    let wanted: Vec<String> = (0..5).flat_map(|n| vec![n.to_string(); 6]).collect();
    assert_eq!(read, wanted);
    assert!(loader.drops().is_empty(), "{}", loader.drops());
}

#[test]
fn packed_shards_are_opened_at_any_byte_of_what_they_hold() {
    let shard = sound_shard(0, 5);
    let folder = Folder::of(&packed(&shard));
    let sources = common::sources(&folder.path().display().to_string(), &[]);
    for (number, source) in sources.iter().enumerate() {
        for at in [0, 1, 512, shard.len() - 1] {
            assert_eq!(
                bytes_from(&**source, at as u64).unwrap(),
                shard[at..],
                "{number} {at}"
            );
        }
        assert_eq!(source.seeks(), number == 0, "{number}");
        let error = bytes_from(&**source, shard.len() as u64 + 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("it has changed"), "{error}");
    }
}

#[test]
fn a_broken_transfer_of_a_packed_shard_is_gone_on_with() {
    let packed = packed(&sound_shard(0, 5));
    let server = Server::start(move |number, request| {
        let reply = Reply::file(request, &packed[request.path[1..2].parse::<usize>().unwrap()]);
        if number % 2 == 0 {
            let half = reply.body.len() / 2;
            reply.stopped(half, Stop::Cut)
        } else {
            reply
        }
    });
    let spec = format!("{}/{{1..5}}", server.url());
    let mut loader = Loader::new(config_of(spec, eager())).unwrap();
    assert_eq!(captions(&batches(&mut loader, 25)).len(), 25);
    assert_eq!(causes(loader.drops()), [(Cause::RetriedConnection, 5)]);
    assert_eq!(loader.cursor().epoch(), 0);
}

#[test]
fn a_damaged_or_unknown_packing_is_named() {
    let shard = sound_shard(0, 5);
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    for (bytes, words) in [
        (cut(gzip(&shard)), "reading fails"),
        (cut(zstd(&shard)), "reading fails"),
        ([&[0x1f, 0x8b][..], &[7; 100]].concat(), "reading fails"),
        (b"BZh91AY&SY".to_vec(), "pipe:bzip2 -dc"),
        (vec![0xfd, b'7', b'z', b'X', b'Z', 0], "pipe:xz -dc"),
        (gzip(&gzip(&shard)), "pipe:gzip -dc"),
    ] {
        let folder = Folder::of(&[bytes]);
        let mut loader = Loader::new(config_of(folder.path().display().to_string(), eager())).unwrap();
        let drops = loop {
            match loader.next_batch() {
                Ok(_) if loader.cursor().epoch() > 0 => break loader.drops().clone(),
                Ok(_) => {}
                Err(DataError::NothingPassed { drops, .. }) => break *drops,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(causes(&drops), [(Cause::BrokenShard, 1)], "{words}");
        assert!(first(&drops, Cause::BrokenShard).contains(words), "{drops}");
    }
}
