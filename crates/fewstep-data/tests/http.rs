//! Shards behind HTTP: whatever the server does, the samples are those of the files, none lost and none twice.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::server::{Reply, Request, Server, Stop};
use common::{
    Folder, batches, bytes_from, captions, causes, config_of, eager, first, impatient, sound_shard,
};
use fewstep_data::{Cause, DataConfig, DataError, Loader, Origin, Resumed, SourceOptions};
use fewstep_draw::{Purpose, Stream};

/// The four shards of the local folder.
fn shards() -> Vec<Vec<u8>> {
    (0..4).map(|n| sound_shard(5 * n, 5 * n + 5)).collect()
}

/// Which of the shards is asked for: `/2.tar`.
fn number(request: &Request) -> usize {
    request.path[1..2].parse().unwrap()
}

/// Reads two epochs and a half of the four shards on the server, with threads and without, and of the local folder.
fn check_equal_to_files(server: &Server, options: SourceOptions) -> Vec<fewstep_data::Drops> {
    let folder = Folder::sound();
    let wanted = captions(&batches(&mut Loader::new(folder.config()).unwrap(), 17));
    let check = |num_workers| {
        let mut loader = Loader::new(DataConfig {
            origin: Origin::Shards(vec![format!("{}/{{0..3}}.tar", server.url())]),
            num_workers,
            sources: options,
            ..folder.config()
        })
        .unwrap();
        assert_eq!(captions(&batches(&mut loader, 17)), wanted);
        loader.drops().clone()
    };
    vec![check(0), check(2)]
}

/// The samples of one shard, and what came of it: the loader ends with an error where there are none.
fn read_one(server: &Server, options: SourceOptions) -> (Vec<String>, fewstep_data::Drops) {
    let mut loader = Loader::new(config_of(format!("{}/0.tar", server.url()), options)).unwrap();
    let mut read = Vec::new();
    // Up to the end of the epoch, which the first sample of the next one shows.
    loop {
        match loader.next_batch() {
            Ok(_) if loader.cursor().epoch() > 0 => return (read, loader.drops().clone()),
            Ok(batch) => read.extend(batch.captions),
            Err(DataError::NothingPassed { drops, .. }) => return (read, *drops),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn connections_cut_at_random_lose_nothing() {
    for seed in 0..3 {
        let (shards, cuts) = (shards(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&cuts);
        let server = Server::start(move |number, request| {
            let file = &shards[self::number(request)];
            let reply = Reply::file(request, file).with("ETag", "\"1\"");
            let mut draws = Stream::new(seed, Purpose::World, number as u64);
            let after = draws.below(file.len() as u64) as usize;
            if after >= reply.body.len() {
                return reply;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            reply.stopped(after, Stop::Cut)
        });
        let drops = check_equal_to_files(
            &server,
            SourceOptions {
                retries: 50,
                ..eager()
            },
        );
        assert!(cuts.load(Ordering::SeqCst) > 20);
        for drops in drops {
            assert!(drops.count(Cause::RetriedConnection) > 5, "{drops}");
            assert_eq!(drops.total(), 0, "{drops}");
        }
    }
}

#[test]
fn a_transfer_goes_on_from_the_byte_where_it_broke() {
    let shards = shards();
    let server = Server::start(move |number, request| {
        let reply = Reply::file(request, &shards[0]).with("ETag", "\"1\"");
        if number == 0 {
            reply.stopped(3000, Stop::Cut)
        } else {
            reply
        }
    });
    let (read, drops) = read_one(&server, eager());
    assert_eq!(read, ["0", "1", "2", "3", "4"]);
    assert_eq!(causes(&drops), [(Cause::RetriedConnection, 1)]);
    assert!(
        first(&drops, Cause::RetriedConnection).contains("at byte 3000"),
        "{drops}"
    );
    let second = &server.requests()[1];
    assert_eq!(second.header("range"), Some("bytes=3000-"));
    assert_eq!(second.header("if-range"), Some("\"1\""));
}

#[test]
fn a_server_that_knows_no_ranges_is_read_again() {
    let shards = shards();
    let server = Server::start(move |number, request| {
        let reply = Reply::whole(&shards[self::number(request)]);
        let mut draws = Stream::new(1, Purpose::World, number as u64);
        match draws.below(3) {
            0 => reply,
            _ => {
                let after = draws.below(reply.body.len() as u64) as usize;
                reply.stopped(after, Stop::Cut)
            }
        }
    });
    for drops in check_equal_to_files(
        &server,
        SourceOptions {
            retries: 50,
            ..eager()
        },
    ) {
        assert!(drops.count(Cause::RetriedConnection) > 5, "{drops}");
        assert_eq!(drops.total(), 0, "{drops}");
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let shards = shards();
    let server = Server::start(move |number, request| match number % 3 {
        0 => Reply::status(503).with("Retry-After", "0"),
        1 => Reply::status(429),
        _ => Reply::file(request, &shards[self::number(request)]),
    });
    for drops in check_equal_to_files(&server, eager()) {
        assert!(drops.count(Cause::RetriedServer) >= 2 * 12, "{drops}");
        assert_eq!(drops.total(), 0, "{drops}");
    }
}

#[test]
fn a_connection_that_stalls_is_given_up_and_gone_on_with() {
    let shards = shards();
    let server = Server::start(move |number, request| {
        let reply = Reply::file(request, &shards[0]);
        // Before the first byte, and in the middle.
        if number < 2 {
            reply.stopped(2000 * number, Stop::Stall)
        } else {
            reply
        }
    });
    let (read, drops) = read_one(&server, impatient());
    assert_eq!(read, ["0", "1", "2", "3", "4"]);
    assert!(drops.count(Cause::RetriedSilence) >= 2, "{drops}");
    assert_eq!(drops.total(), 0, "{drops}");
}

#[test]
fn a_server_that_stays_silent_is_given_up() {
    let server = Server::start(|_, _| Reply::whole(b"x").stopped(0, Stop::Stall));
    let (read, drops) = read_one(
        &server,
        SourceOptions {
            retries: 1,
            ..impatient()
        },
    );
    assert!(read.is_empty());
    assert_eq!(
        causes(&drops),
        [(Cause::SilentShard, 1), (Cause::RetriedSilence, 1)]
    );
    let text = first(&drops, Cause::SilentShard);
    assert!(
        text.contains("0.3 s") && text.contains("tried again once"),
        "{text}"
    );
}

#[test]
fn what_is_refused_is_not_asked_for_again() {
    for (status, words) in [
        (404, "check the address"),
        (403, "may have expired"),
        (401, "user:password@"),
        (400, "400"),
    ] {
        let server = Server::start(move |_, _| Reply::status(status));
        let (_, drops) = read_one(&server, eager());
        assert_eq!(causes(&drops), [(Cause::UnreadableShard, 1)]);
        let text = first(&drops, Cause::UnreadableShard);
        assert!(text.contains(words), "{text}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_server_that_never_answers_well_is_given_up() {
    let server = Server::start(|_, _| Reply::status(500));
    let (_, drops) = read_one(
        &server,
        SourceOptions {
            retries: 3,
            ..eager()
        },
    );
    assert_eq!(
        causes(&drops),
        [(Cause::UnreachableShard, 1), (Cause::RetriedServer, 3)]
    );
    assert!(
        first(&drops, Cause::UnreachableShard).contains("tried again 3 times"),
        "{drops}"
    );
    let url = server.url();
    drop(server);
    // Nobody listens there any more.
    let mut loader = Loader::new(config_of(
        format!("{url}/0.tar"),
        SourceOptions {
            retries: 1,
            ..eager()
        },
    ))
    .unwrap();
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn a_shard_that_changes_on_the_way_is_broken() {
    type Change = fn(Reply, usize) -> Reply;
    let changes: [(Change, &str); 4] = [
        (
            |reply, number| reply.with("ETag", format!("\"{number}\"")),
            "ETag",
        ),
        (
            |reply, number| reply.with("Last-Modified", format!("Mon, 23 Nov 2026 10:00:0{number} GMT")),
            "date",
        ),
        // Without a range, so that the bytes themselves tell.
        (
            |mut reply, number| {
                // In the first transfer only, not in the second epoch.
                reply.body[100] ^= u8::from(number == 1);
                reply
            },
            "other bytes",
        ),
        (
            |mut reply, number| {
                reply.body.truncate(reply.body.len() - number);
                reply
            },
            "length",
        ),
    ];
    for (change, words) in changes {
        let shards = shards();
        let server = Server::start(move |number, _| {
            change(Reply::whole(&shards[0]), number)
                .stopped(if number == 0 { 3000 } else { usize::MAX }, Stop::Cut)
        });
        let (read, drops) = read_one(&server, eager());
        assert!(!read.is_empty() && read.len() < 5, "{words}: {read:?}");
        assert_eq!(drops.count(Cause::BrokenShard), 1, "{words}: {drops}");
        assert!(first(&drops, Cause::BrokenShard).contains(words), "{drops}");
    }
}

#[test]
fn a_source_is_opened_at_any_byte() {
    let shard = sound_shard(0, 5);
    let own = shard.clone();
    let server = Server::start(move |_, request| match &*request.path {
        "/ranges.tar" => Reply::file(request, &own),
        _ => Reply::whole(&own),
    });
    for (path, seeks) in [("ranges.tar", true), ("whole.tar", false)] {
        let source = &common::sources(&format!("{}/{path}", server.url()), &[])[0];
        assert!(source.seeks());
        for at in [0, 1, 512, shard.len() - 1] {
            assert_eq!(
                bytes_from(&**source, at as u64).unwrap(),
                shard[at..],
                "{path} {at}"
            );
        }
        assert_eq!(source.seeks(), seeks);
        let error = bytes_from(&**source, shard.len() as u64 + 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("changed"), "{error}");
    }
    let asked = server.requests();
    assert!(asked.iter().any(|request| request.from() == Some(512)));
}

#[test]
fn a_redirection_is_followed_anew_each_time() {
    let shards = shards();
    let server = Server::start(move |number, request| match &*request.path {
        "/0.tar" => Reply::status(302).with("Location", format!("/there?X-Amz-Signature=hush{number}")),
        _ => {
            let reply = Reply::file(request, &shards[0]);
            if number < 4 {
                reply.stopped(2000, Stop::Cut)
            } else {
                reply
            }
        }
    });
    let (read, drops) = read_one(&server, eager());
    assert_eq!(read, ["0", "1", "2", "3", "4"]);
    assert!(!drops.to_string().contains("hush"), "{drops}");
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|request| request.path == "/0.tar").count(), 4);
    assert!(asked.iter().all(|request| request.header("referer").is_none()));
}

#[test]
fn a_login_is_sent_and_never_shown() {
    let server = Server::start(|_, _| Reply::status(500));
    let spec = format!("{}/0.tar?token=hush-hush", server.url_as("me:hush"));
    let mut loader = Loader::new(config_of(
        spec,
        SourceOptions {
            retries: 1,
            ..eager()
        },
    ))
    .unwrap();
    let error = loader.next_batch().unwrap_err().to_string();
    assert!(
        error.contains("***@127.0.0.1") && !error.contains("hush"),
        "{error}"
    );
    let request = &server.requests()[0];
    // me:hush in base 64.
    assert_eq!(request.header("authorization"), Some("Basic bWU6aHVzaA=="));
    assert_eq!(request.path, "/0.tar?token=hush-hush");
}

#[test]
fn a_loader_can_be_dropped_while_it_waits() {
    let shard = sound_shard(0, 5);
    let server = Server::start(move |_, _| Reply::whole(&shard).stopped(3000, Stop::Stall));
    for num_workers in [0, 2] {
        let mut loader = Loader::new(DataConfig {
            num_workers,
            ..config_of(format!("{}/0.tar", server.url()), eager())
        })
        .unwrap();
        let _ = batches(&mut loader, 1);
        // Ten minutes long if it waited for the server.
        drop(loader);
    }
}

#[test]
fn a_cursor_goes_on_over_http_without_reading_all_again() {
    let shards = shards();
    let server = Server::start(move |_, request| Reply::file(request, &shards[number(request)]));
    let config = DataConfig {
        origin: Origin::Shards(vec![format!("{}/{{0..3}}.tar", server.url())]),
        shuffle_window: 4,
        batch_size: 1,
        sources: eager(),
        ..Folder::sound().config()
    };
    let wanted = captions(&batches(&mut Loader::new(config.clone()).unwrap(), 30));
    let mut loader = Loader::new(config.clone()).unwrap();
    let mut read = captions(&batches(&mut loader, 6));
    for count in [1, 3, 8, 12] {
        let (resumed, how) = Loader::resume(config.clone(), loader.cursor()).unwrap();
        assert_eq!(how, Resumed::Exactly);
        loader = resumed;
        read.extend(captions(&batches(&mut loader, count)));
    }
    // Nothing was cut: only going on asks for a part.
    assert!(server.requests().iter().any(|request| request.from().is_some()));
    assert_eq!(read, wanted);
    assert_eq!(loader.drops().total(), 0, "{}", loader.drops());
}
