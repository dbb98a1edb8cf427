//! Grouping members to samples, as WebDataset does it.

#![allow(clippy::unwrap_used)]

mod common;

use common::archive;
use fewstep_data::Cause;
use fewstep_data::sample::{Found, Samples};

const LIMIT: u64 = 1000;

/// Each find in short: the key and the caption of a sample, or the cause and the example of a drop.
fn finds(members: &[(&str, &[u8])]) -> Vec<String> {
    finds_in(&archive(members))
}

fn finds_in(bytes: &[u8]) -> Vec<String> {
    Samples::new("s.tar".into(), bytes, LIMIT)
        .map(|(_, found)| match found {
            Found::Sample(sample) => format!(
                "{}={} {}",
                sample.key,
                sample.captions.join("|"),
                String::from_utf8_lossy(&sample.image)
            ),
            Found::Dropped(dropped) => format!("{:?}: {}", dropped.cause, dropped.example),
        })
        .collect()
}

#[test]
fn consecutive_members_with_one_key_are_a_sample() {
    let members: &[(&str, &[u8])] = &[
        ("a.jpg", b"A"),
        ("a.txt", b"first"),
        ("b.text", b"second"),
        ("b.json", b"{}"),
        ("b.png", b"B"),
        ("dir.v1/c.x.JPEG", b"no picture: its extension is x.jpeg"),
        ("dir.v1/c.WebP", b"C"),
        ("dir.v1/c.Caption", b"third"),
    ];
    assert_eq!(finds(members), ["a=first A", "b=second B", "dir.v1/c=third C"]);
}

#[test]
fn the_last_sample_of_a_shard_is_not_lost() {
    assert_eq!(finds(&[("a.jpg", b"A"), ("a.txt", b"x")]), ["a=x A"]);
}

#[test]
fn a_repeated_extension_begins_a_new_sample() {
    let members: &[(&str, &[u8])] = &[
        ("a.jpg", b"1"),
        ("a.txt", b"x"),
        ("a.JPG", b"2"),
        ("a.txt", b"y"),
        ("a.json", b""),
        ("a.json", b""),
    ];
    let finds = finds(members);
    assert_eq!(finds[..2], ["a=x 1", "a=y 2"]);
    assert!(
        finds[2].starts_with("MissingImage: s.tar: a (found json)"),
        "{finds:?}"
    );
}

#[test]
fn pictures_and_captions_have_an_order_of_preference() {
    let members: &[(&str, &[u8])] = &[
        ("a.webp", b"webp"),
        ("a.png", b"png"),
        ("a.jpeg", b"jpeg"),
        ("a.caption", b"caption"),
        ("a.txt", b"txt"),
        ("a.text", b"text"),
        ("b.jpg", b"jpg"),
        ("b.png", b"png"),
        ("b.txt", b"txt"),
        ("b.caption", b"caption"),
    ];
    assert_eq!(finds(members), ["a=text png", "b=txt jpg"]);
}

#[test]
fn what_belongs_to_no_sample_is_passed_over() {
    let members: &[(&str, &[u8])] = &[
        ("__meta__/a.txt", b""),
        ("__index__", b""),
        ("__meta__.json", b""),
        ("README", b""),
        ("folder/.hidden.jpg", b""),
        ("._a.jpg", b""),
        ("a.jpg", b"A"),
        ("note", b"does not part the sample"),
        ("a.txt", b"x"),
    ];
    assert_eq!(finds(members), ["a=x A"]);
}

#[test]
fn each_incomplete_sample_is_dropped_once_and_named() {
    let big = vec![0; LIMIT as usize + 1];
    let members: &[(&str, &[u8])] = &[
        ("a.txt", b"x"),
        ("b.jpg", b"B"),
        ("b.cls", b"1"),
        ("c.jpg", &big),
        ("c.txt", b"x"),
        ("d.jpg", b"D"),
        ("d.txt", b"\xff\xfe"),
        ("e.json", &big),
        ("e.jpg", b"E"),
        ("e.txt", b"a large member that is not needed is not read"),
        ("f.jpg", b"F"),
        ("f.txt", b""),
    ];
    let finds = finds(members);
    assert_eq!(finds[0], "MissingImage: s.tar: a (found txt)");
    assert_eq!(finds[1], "MissingCaption: s.tar: b (found jpg, cls)");
    assert_eq!(
        finds[2],
        "OversizedMember: s.tar: c c.jpg has 1001 bytes, the limit is 1000"
    );
    assert_eq!(finds[3], "CaptionNotUtf8: s.tar: d (found jpg, txt)");
    assert!(finds[4].starts_with("e="));
    assert_eq!(finds[5], "f= F");
    assert_eq!(finds.len(), 6);
}

#[test]
fn a_broken_shard_keeps_complete_samples_and_is_counted_once() {
    let bytes = archive(&[("a.jpg", b"A"), ("a.txt", b"x"), ("b.jpg", b"B"), ("b.txt", b"y")]);
    // Within the data of b.txt: b is lost with the shard.
    let cut = finds_in(&bytes[..3 * 1024 + 512]);
    assert_eq!(cut[0], "a=x A");
    assert_eq!(
        cut[1],
        format!("{:?}: s.tar ends early, at byte 3584", Cause::BrokenShard)
    );
    assert_eq!(cut.len(), 2);
    // Within the header of b.jpg: a was complete.
    let cut = finds_in(&bytes[..2 * 1024 + 10]);
    assert_eq!(cut[0], "a=x A");
    assert!(cut[1].starts_with("BrokenShard"));
    assert_eq!(cut.len(), 2);
}

#[test]
fn a_shard_without_samples_is_counted() {
    assert_eq!(finds(&[]), ["EmptyShard: s.tar holds no samples"]);
    assert_eq!(finds(&[("README", b"")]), ["EmptyShard: s.tar holds no samples"]);
    // One that holds only useless ones is not empty.
    assert_eq!(finds(&[("a.txt", b"")]), ["MissingImage: s.tar: a (found txt)"]);
}
