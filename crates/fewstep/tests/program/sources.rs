//! Shards that are no local files, through the program: standard input, a pipe, a server, and credentials that stay
//! unseen.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use tempfile::TempDir;

use super::common::{Ran, command, fewstep, fixture, word};
use super::train::{losses, without_data};

#[test]
fn standard_input_and_pipes_are_looked_into() {
    let shard = fixture("data/good.tar");
    let file = fewstep(["shards", "inspect", &word(&shard), "--min_size=0"]).ok();
    let first = file.stdout.lines().next().unwrap().to_owned();
    assert!(first.contains("24 samples"), "{first}");
    let stdin = File::open(&shard).unwrap();
    let ran: Ran = command(["shards", "inspect", "-", "--min_size=0"])
        .stdin(stdin)
        .output()
        .unwrap()
        .into();
    assert!(ran.ok().stdout.contains(&first));
    let pipe = format!("pipe:gzip -c {} | cat", word(&shard));
    assert!(
        fewstep(["shards", "inspect", &pipe, "--min_size=0"])
            .ok()
            .stdout
            .contains(&first)
    );
}

#[test]
fn a_run_from_standard_input_ends_with_it_and_says_so() {
    let place = TempDir::new().unwrap();
    let shard = || File::open(fixture("data/good.tar")).unwrap();
    let train = |out: &str, steps: &str| -> Ran {
        let arguments = without_data(&place.path().join(out), &["--train_shards_path_or_url=-", steps]);
        command(arguments).stdin(shard()).output().unwrap().into()
    };
    train("short", "--max_train_steps=2").ok();
    assert_eq!(losses(&place.path().join("short")).len(), 2);
    let text = train("long", "--max_train_steps=13").failed(1);
    assert!(
        text.contains("can be read only once") && text.contains("--max_train_steps"),
        "{text}"
    );
}

/// Serves the file again and again, breaking off every second transfer, to whoever asks with the login.
fn serve(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                request.push(byte[0]);
            }
            // me:hush in base 64.
            let known = String::from_utf8_lossy(&request).contains("Basic bWU6aHVzaA==");
            let (status, body) = if known { (200, &file[..]) } else { (401, &[][..]) };
            let sent = body.len() / (1 + (number + 1) % 2);
            let head = format!(
                "HTTP/1.1 {status} Words\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body[..sent]);
        }
    });
    address
}

#[test]
fn a_run_from_a_server_leaves_no_credential_behind_and_resumes() {
    let place = TempDir::new().unwrap();
    let out = place.path().join("run");
    let address = serve(fs::read(fixture("data/good.tar")).unwrap());
    let train = |token: &str, more: &[&str]| {
        let shards =
            format!("--train_shards_path_or_url=http://me:hush@{address}/good.tar?token={token}&shard=1");
        let arguments = [&[&*shards], more].concat();
        fewstep(without_data(&out, &arguments))
    };
    let ran = train("hush1", &["--max_train_steps=2", "--checkpointing_steps=1"]).ok();
    assert!(ran.stderr.contains("connection, tried again"), "{}", ran.stderr);
    // Signed anew, it is the same run.
    let more = train("hush2", &["--max_train_steps=3", "--checkpointing_steps=1"]).ok();
    assert_eq!(losses(&out).len(), 3);
    assert!(!ran.stderr.contains("hush") && !more.stderr.contains("hush"));
    for path in [
        "config.toml",
        "README.md",
        "metrics.jsonl",
        "checkpoint-3/state.json",
    ] {
        let text = fs::read_to_string(out.join(path)).unwrap();
        assert!(!text.contains("hush"), "{path}: {text}");
    }
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(
        card.contains(&format!("http://***@{address}/good.tar?token=***&shard=1")),
        "{card}"
    );
    let config = word(out.join("config.toml"));
    let text = fewstep(["train", "--config", &config, "--max_train_steps=4"]).failed(1);
    assert!(text.contains("write the secret again"), "{text}");
}
