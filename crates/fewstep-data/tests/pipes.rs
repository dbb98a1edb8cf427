//! Shards that commands write: sound ones, and every way in which a command goes wrong.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Folder, batches, captions, causes, config_of, eager, first, impatient};
use fewstep_data::{Cause, DataConfig, DataError, Drops, Loader, Origin, SourceOptions};

/// A folder with one shard of five samples, and the shard's path.
fn shard() -> (Folder, String) {
    let folder = Folder::of(&[common::sound_shard(0, 5)]);
    let path = folder.file(0).display().to_string();
    (folder, path)
}

/// The samples that `command` gives in one epoch, and what came of it.
fn read(command: &str, options: SourceOptions) -> (Vec<String>, Drops) {
    let mut loader = Loader::new(config_of(format!("pipe:{command}"), options)).unwrap();
    let mut read = Vec::new();
    loop {
        match loader.next_batch() {
            Ok(_) if loader.cursor().epoch() > 0 => return (read, loader.drops().clone()),
            Ok(batch) => read.extend(batch.captions),
            Err(DataError::NothingPassed { drops, .. }) => return (read, *drops),
            Err(error) => panic!("{error}"),
        }
    }
}

const ALL: [&str; 5] = ["0", "1", "2", "3", "4"];

/// Whether the process with the number in `file` is there.
fn is_alive(file: &Path) -> bool {
    let number = std::fs::read_to_string(file).unwrap();
    let states = Command::new("ps")
        .args(["-o", "stat=", "-p", number.trim()])
        .output()
        .unwrap();
    let states = String::from_utf8(states.stdout).unwrap();
    !states.trim().is_empty() && !states.trim().starts_with('Z')
}

#[test]
fn pipes_give_what_their_files_hold() {
    let folder = Folder::sound();
    let wanted = captions(&batches(&mut Loader::new(folder.config()).unwrap(), 17));
    for num_workers in [0, 2] {
        let mut loader = Loader::new(DataConfig {
            origin: Origin::Shards(vec![format!(
                "pipe:cat {}/{{000..003}}.tar",
                folder.path().display()
            )]),
            num_workers,
            sources: eager(),
            ..folder.config()
        })
        .unwrap();
        assert_eq!(captions(&batches(&mut loader, 17)), wanted);
        assert!(loader.drops().is_empty(), "{}", loader.drops());
    }
}

#[test]
fn the_shells_syntax_is_the_shells() {
    let (_folder, path) = shard();
    let command = format!("x={path}; test -e \"$x\" && cat < $x | cat; true");
    assert_eq!(read(&command, eager()).0, ALL);
}

#[test]
fn how_a_command_ends_after_a_whole_archive_is_no_concern() {
    let (_folder, path) = shard();
    for end in ["exit 3", "kill -9 $$", "sleep 1000", "cat /dev/zero"] {
        let (read, drops) = read(&format!("cat {path}; {end}"), eager());
        assert_eq!(read, ALL, "{end}");
        assert!(drops.is_empty(), "{end}: {drops}");
    }
}

#[test]
fn a_command_that_fails_halfway_is_run_again_and_then_given_up() {
    let (_folder, path) = shard();
    let command = format!("head -c 3000 {path}; echo why >&2; echo out of milk >&2; exit 3");
    let (read, drops) = read(&command, eager());
    assert!(!read.is_empty() && read.len() < 5, "{read:?}");
    assert_eq!(
        causes(&drops),
        [(Cause::FailedCommand, 1), (Cause::RetriedCommand, 2)]
    );
    let text = first(&drops, Cause::FailedCommand);
    for words in [
        "status 3",
        "why / out of milk",
        "tried again 2 times",
        "head -c 3000",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_command_that_fails_once_loses_nothing() {
    let (folder, path) = shard();
    let mark = folder.path().join("mark").display().to_string();
    let command =
        format!("if test -e {mark}; then cat {path}; else touch {mark}; head -c 3000 {path}; exit 1; fi");
    let (read, drops) = read(&command, eager());
    assert_eq!(read, ALL);
    assert_eq!(causes(&drops), [(Cause::RetriedCommand, 1)]);
}

#[test]
fn a_command_that_says_something_else_the_second_time_is_not_believed() {
    let (folder, path) = shard();
    let mark = folder.path().join("mark").display().to_string();
    let command = format!(
        "if test -e {mark}; then (printf x; tail -c +2 {path}); else touch {mark}; head -c 3000 {path}; exit 1; fi"
    );
    let (_, drops) = read(&command, eager());
    assert_eq!(
        causes(&drops),
        [(Cause::BrokenShard, 2), (Cause::RetriedCommand, 1)]
    );
    assert!(
        first(&drops, Cause::BrokenShard).contains("other bytes"),
        "{drops}"
    );
}

#[test]
fn a_command_that_is_not_there_is_not_asked_twice() {
    let (_, drops) = read("fewstep-no-such-command", eager());
    assert_eq!(causes(&drops), [(Cause::UnreadableShard, 1)]);
    assert!(
        first(&drops, Cause::UnreadableShard).contains("not found"),
        "{drops}"
    );
}

#[test]
fn words_instead_of_an_archive_are_quoted() {
    let (_, drops) = read("echo Entry not found", eager());
    assert_eq!(causes(&drops), [(Cause::BrokenShard, 1)]);
    assert!(
        first(&drops, Cause::BrokenShard).contains("\"Entry not found\""),
        "{drops}"
    );
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let (folder, path) = shard();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let command = format!(
        "head -c 3000 {path}; sleep 1000 & echo $! > {}; echo $$ > {}; wait | cat",
        one.display(),
        other.display()
    );
    let (read, drops) = read(&command, impatient());
    assert!(!read.is_empty() && read.len() < 5, "{read:?}");
    assert_eq!(
        causes(&drops),
        [(Cause::SilentShard, 1), (Cause::RetriedSilence, 2)]
    );
    assert!(!is_alive(&one) && !is_alive(&other));
}

#[test]
fn dropping_the_loader_kills_its_commands() {
    let (folder, path) = shard();
    for num_workers in [0, 2] {
        let number = folder.path().join("number");
        let command = format!(
            "head -c 3000 {path}; echo $$ > {}; exec sleep 1000",
            number.display()
        );
        let mut loader = Loader::new(DataConfig {
            num_workers,
            ..config_of(format!("pipe:{command}"), eager())
        })
        .unwrap();
        let _ = batches(&mut loader, 1);
        while std::fs::read_to_string(&number).map_or(true, |text| !text.ends_with('\n')) {
            std::thread::yield_now();
        }
        drop(loader);
        assert!(!is_alive(&number));
        std::fs::remove_file(&number).unwrap();
    }
}

#[test]
fn a_talkative_command_is_not_held_up() {
    let (_folder, path) = shard();
    let command = format!("head -c 1000000 /dev/zero | tr '\\0' x >&2; cat {path}");
    assert_eq!(read(&command, eager()).0, ALL);
}

#[test]
fn secrets_of_a_command_are_never_shown() {
    let command =
        "echo Authorization: Bearer hf_abcdefghijklmnopqrstuvwxyz >&2; : --password hushhush; exit 3";
    let (_, drops) = read(command, eager());
    let text = drops.to_string();
    assert!(text.contains("status 3: Authorization: Bearer ***"), "{text}");
    assert!(!text.contains("hush") && !text.contains("hf_abc"), "{text}");
}
