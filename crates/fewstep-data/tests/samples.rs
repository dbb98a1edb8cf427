//! Grouping members to samples, as WebDataset does it.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::archive;
use fewstep_data::sample::{Found, Samples};
use fewstep_data::{Cause, Limits, Unscored, Wanted};

const LIMIT: u64 = 1000;

/// Each find in short: the key and the caption of a sample, or the cause and the example of a drop.
fn finds(members: &[(&str, &[u8])]) -> Vec<String> {
    finds_in(&archive(members))
}

fn finds_in(bytes: &[u8]) -> Vec<String> {
    wanted_in(bytes, Wanted::default())
}

fn wanted_in(bytes: &[u8], wanted: Wanted) -> Vec<String> {
    let limits = Limits {
        max_member_bytes: LIMIT,
        max_text_bytes: LIMIT / 2,
        ..Limits::default()
    };
    Samples::new("s.tar".into(), bytes, limits, Arc::new(wanted))
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
        ("f.txt", b" \n"),
        ("g.jpg", b"G"),
        ("g.txt", &big[..LIMIT as usize / 2 + 1]),
    ];
    let finds = finds(members);
    assert_eq!(finds[0], "MissingImage: s.tar: a (found txt)");
    assert_eq!(finds[1], "MissingCaption: s.tar: b (found cls, jpg)");
    assert_eq!(
        finds[2],
        "OversizedMember: s.tar: c has c.jpg with 1001 bytes, the limit is 1000"
    );
    assert_eq!(finds[3], "CaptionNotUtf8: s.tar: d (found jpg, txt)");
    assert!(finds[4].starts_with("e="));
    assert_eq!(finds[5], "EmptyCaption: s.tar: f has an empty caption");
    assert_eq!(
        finds[6],
        "OversizedMember: s.tar: g has g.txt with 501 bytes, the limit is 500"
    );
    assert_eq!(finds.len(), 7);
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

#[test]
fn captions_lose_what_editors_put_around_them() {
    let members: &[(&str, &[u8])] = &[("a.jpg", b"A"), ("a.txt", b"\xef\xbb\xbf a fox\r\n")];
    assert_eq!(finds(members), ["a=a fox A"]);
}

#[test]
fn a_path_that_leads_out_is_refused_once_a_sample() {
    // The archive's writer would not make such a path.
    let mut header = tar::Header::new_ustar();
    let path = b"../../etc/a.jpg";
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.set_size(1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(b"A");
    bytes.resize(1024, 0);
    header.as_mut_bytes()[12..15].copy_from_slice(b"txt");
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes.extend(b"x");
    bytes.resize(2048, 0);
    bytes.extend(archive(&[("b..c/b.jpg", b"B"), ("b..c/b.txt", b"y")]));
    assert_eq!(
        finds_in(&bytes),
        [
            "UnsafePath: s.tar: ../../etc/a has a path that leads out of the archive",
            "b..c/b=y B"
        ]
    );
}

#[test]
fn names_without_end_take_no_memory() {
    let long = format!("{}.jpg", "x".repeat(5000));
    let many: Vec<String> = (0..1002).map(|n| format!("a.{n}")).collect();
    let mut members: Vec<(&str, &[u8])> = vec![(&long, b"A")];
    members.extend(many.iter().map(|name| (&**name, b"".as_slice())));
    members.extend([("b.jpg", b"B".as_slice()), ("b.txt", b"x")]);
    let finds = finds(&members);
    assert_eq!(
        finds,
        [
            "UnsafePath: s.tar has a member with a path of 5004 bytes",
            "OversizedMember: s.tar: a has more than 1000 members",
            "b=x B"
        ]
    );
}

const SCORED: &[(&str, &[u8])] = &[
    ("a.jpg", b"A"),
    ("a.txt", b"file"),
    (
        "a.json",
        br#"{"caption": "from json", "pwatermark": 0.2, "aesthetic": NaN}"#,
    ),
    (
        "b.json",
        br#"{"caption": ["one", " ", "two"], "pwatermark": 0.8}"#,
    ),
    ("b.jpg", b"B"),
    ("c.jpg", b"C"),
    ("c.txt", b"file"),
    ("d.jpg", b"D"),
    ("d.txt", b"file"),
    ("d.json", b"{ broken"),
    ("e.jpg", b"E"),
    ("e.json", br#"{"caption": 7, "pwatermark": null}"#),
];

#[test]
fn captions_may_come_from_the_json() {
    let wanted = Wanted {
        caption_key: Some("caption".into()),
        ..Wanted::default()
    };
    let finds = wanted_in(&archive(SCORED), wanted);
    assert_eq!(finds[..2], ["a=from json A", "b=one|two B"]);
    assert_eq!(
        finds[2],
        "MissingCaption: s.tar: c has no JSON, and so no caption"
    );
    assert!(
        finds[3].starts_with("BadJson: s.tar: d has a JSON that is no object: "),
        "{finds:?}"
    );
    assert_eq!(finds[4], "BadJson: s.tar: e holds no text in caption");
}

#[test]
fn samples_may_be_chosen_by_scores_of_their_json() {
    let mut wanted = Wanted {
        max_pwatermark: Some(0.5),
        ..Wanted::default()
    };
    let finds = wanted_in(&archive(SCORED), wanted.clone());
    assert_eq!(finds[0], "a=file A");
    assert_eq!(finds[1], "MissingCaption: s.tar: b (found jpg, json)");
    assert_eq!(finds[2], "Unscored: s.tar: c has no JSON, and so no pwatermark");
    assert!(finds[3].starts_with("BadJson: s.tar: d "), "{finds:?}");
    wanted.caption_key = Some("caption".into());
    wanted.unscored = Unscored::Keep;
    let finds = wanted_in(&archive(&SCORED[..5]), wanted.clone());
    assert_eq!(
        finds[1],
        "Watermark: s.tar: b has pwatermark 0.8, the limit is 0.5"
    );
    wanted.unscored = Unscored::Drop;
    wanted.min_aesthetic = Some(5.0);
    let finds = wanted_in(&archive(&SCORED[..3]), wanted);
    assert_eq!(
        finds,
        [
            "Unscored: s.tar: a has no number aesthetic in its JSON, whose keys are caption, pwatermark, \
          aesthetic"
        ]
    );
}

#[test]
fn json_that_nobody_asks_for_is_not_read() {
    assert_eq!(finds(&SCORED[7..10]), ["d=file D"]);
}
