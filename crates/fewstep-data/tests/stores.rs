//! Object stores and the hub, played by a server on loopback.

#![allow(clippy::unwrap_used)]

mod common;

use common::server::{Reply, Server, Stop};
use common::{access, bytes_from, eager, sound_shard};
use fewstep_data::source::Source;
use fewstep_data::{Cause, spec};

const DATE: &str = "Mon, 23 Nov 2026 10:00:00 GMT";

/// The variables with which the three stores are the server at `url`.
fn variables(url: &str) -> Vec<(&'static str, String)> {
    let own = |name, value: &str| (name, value.to_owned());
    vec![
        own("AWS_ENDPOINT", url),
        own("AWS_ALLOW_HTTP", "true"),
        own("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        own("AWS_SECRET_ACCESS_KEY", "hush-hush-hush"),
        own("AWS_REGION", "nowhere-1"),
        own("GOOGLE_BASE_URL", url),
        own("GOOGLE_ALLOW_HTTP", "true"),
        own("GOOGLE_SKIP_SIGNATURE", "true"),
        own("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        own("AZURE_STORAGE_ENDPOINT", url),
        own("AZURE_ALLOW_HTTP", "true"),
        own("AZURE_SKIP_SIGNATURE", "true"),
    ]
}

fn expand(spec: &str, variables: &[(&'static str, String)]) -> Vec<std::sync::Arc<dyn Source>> {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    spec::expand(&[spec.to_owned()], &access(eager(), &variables)).unwrap()
}

#[test]
fn objects_are_read_and_gone_on_with() {
    for (spec, path, login) in [
        (
            "s3://bucket/data/{0..1}.tar",
            "/bucket/data/0.tar",
            Some("AWS4-HMAC-SHA256"),
        ),
        ("gs://bucket/data/{0..1}.tar", "/bucket/data%2F0%2Etar", None),
        ("az://bucket/data/{0..1}.tar", "/bucket/data/0.tar", None),
    ] {
        let shard = sound_shard(0, 5);
        let own = shard.clone();
        let server = Server::start(move |number, request| {
            let reply = Reply::file(request, &own)
                .with("ETag", "\"1\"")
                .with("Last-Modified", DATE);
            match number {
                0 => reply.stopped(3000, Stop::Cut),
                1 => Reply::status(503),
                _ => reply,
            }
        });
        let sources = expand(spec, &variables(&server.url()));
        assert_eq!(sources.len(), 2);
        assert_eq!(bytes_from(&*sources[0], 0).unwrap(), shard, "{spec}");
        assert_eq!(bytes_from(&*sources[1], 700).unwrap(), shard[700..], "{spec}");
        let asked = server.requests();
        assert_eq!(asked.len(), 5, "{spec}: {asked:?}");
        assert!(asked[0].path.starts_with(path), "{spec}: {}", asked[0].path);
        assert_eq!(asked[1].from(), Some(3000), "{spec}");
        assert_eq!(asked[1].header("if-match"), Some("\"1\""), "{spec}");
        // The first look tells how it is packed.
        assert_eq!((asked[3].from(), asked[4].from()), (None, Some(700)), "{spec}");
        let authorization = asked[0].header("authorization");
        assert_eq!(authorization.is_some(), login.is_some(), "{spec}");
        assert!(
            authorization
                .zip(login)
                .is_none_or(|(is, login)| is.starts_with(login))
        );
    }
}

#[test]
fn what_a_store_refuses_is_told() {
    let denied = "<Error><Code>AccessDenied</Code>\n\n<Message>Not you</Message></Error>";
    for (status, words) in [
        (404, "check the bucket"),
        (403, "AWS_SKIP_SIGNATURE"),
        (416, "shorter than 10 bytes"),
        (400, "400"),
    ] {
        let server = Server::start(move |_, request| match request.from() {
            None if status == 416 => Reply::whole(b"abcdefgh").with("Last-Modified", DATE),
            _ => Reply {
                body: denied.into(),
                ..Reply::status(status)
            },
        });
        let source = &expand("s3://bucket/0.tar", &variables(&server.url()))[0];
        let error = bytes_from(&**source, 10).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("hush") && !error.contains("AKID"), "{error}");
        assert!(server.requests().len() <= 2);
    }
}

#[test]
fn an_object_that_changes_on_the_way_is_told() {
    let shard = sound_shard(0, 5);
    let server = Server::start(move |number, _| match number {
        0 => Reply::whole(&shard)
            .with("ETag", "\"1\"")
            .with("Last-Modified", DATE)
            .stopped(3000, Stop::Cut),
        _ => Reply::status(412),
    });
    let source = &expand("s3://bucket/0.tar", &variables(&server.url()))[0];
    let error = bytes_from(&**source, 0).unwrap_err().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
}

#[test]
fn a_folder_of_a_store_is_listed() {
    let entry = |name: &str| {
        format!(
            "<Contents><Key>data/{name}</Key><LastModified>2026-11-23T10:00:00.000Z</LastModified>\
             <ETag>\"1\"</ETag><Size>5</Size></Contents>"
        )
    };
    let list: String = ["2.tar", "1.tar.gz", "notes.txt", "deeper/3.tar"]
        .map(entry)
        .concat();
    let list = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{list}</ListBucketResult>");
    let server = Server::start(move |number, _| match number {
        0 => Reply::status(500),
        _ => Reply::whole(list.as_bytes()),
    });
    let names: Vec<String> = expand("s3://bucket/data/", &variables(&server.url()))
        .iter()
        .map(|source| source.name().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "s3://bucket/data/1.tar.gz",
            "s3://bucket/data/2.tar",
            "s3://bucket/data/deeper/3.tar"
        ]
    );
    assert!(
        server.requests()[1].path.contains("prefix=data%2F"),
        "{:?}",
        server.requests()[1]
    );
}

#[test]
fn the_hub_is_asked_with_its_token() {
    let shard = sound_shard(0, 5);
    let own = shard.clone();
    let server = Server::start(move |number, request| match (number, &*request.path) {
        (0, "/datasets/me/set/resolve/refs%2Fpr%2F1/data/0.tar") => {
            Reply::status(302).with("Location", "/elsewhere?X-Amz-Signature=x")
        }
        (_, "/elsewhere?X-Amz-Signature=x") => Reply::file(request, &own),
        _ => Reply::status(401),
    });
    let variables = [
        ("HF_ENDPOINT", server.url()),
        ("HF_TOKEN", "hf_hushhushhushhush".to_owned()),
    ];
    let sources = expand("hf://datasets/me/set@refs/pr/1/data/{0,x}.tar", &variables);
    assert_eq!(bytes_from(&*sources[0], 0).unwrap(), shard);
    let login = server.requests()[0].header("authorization").map(str::to_owned);
    assert_eq!(login.as_deref(), Some("Bearer hf_hushhushhushhush"));
    let error = bytes_from(&*sources[1], 0).unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && !error.contains("hush"), "{error}");
}

#[test]
fn a_data_set_of_the_hub_is_listed_page_by_page() {
    let page = |names: &[&str]| {
        let entry = |name: &&str| format!("{{\"type\": \"file\", \"path\": \"data/{name}\", \"size\": 5}}");
        let entries: Vec<String> = names.iter().map(entry).collect();
        format!(
            "[{{\"type\": \"directory\", \"path\": \"data/x.tar\"}}, {}]",
            entries.join(", ")
        )
    };
    let server = Server::start(move |_, request| {
        let path = "/api/datasets/me/set/tree/main/data";
        if request.path == path {
            let next = format!(
                "<http://{}{path}?cursor=2>; rel=\"next\"",
                request.header("host").unwrap()
            );
            Reply::whole(page(&["1.tar", "0.tar"]).as_bytes()).with("Link", next)
        } else {
            // The token stays with the server: a link to another one is not followed.
            Reply::whole(page(&["readme.md", "2.tar"]).as_bytes())
                .with("Link", "<http://127.0.0.1:1/>; rel=\"next\"")
        }
    });
    let names: Vec<String> = expand("hf://datasets/me/set/data/", &[("HF_ENDPOINT", server.url())])
        .iter()
        .map(|source| source.name().to_owned())
        .collect();
    assert_eq!(
        names,
        [0, 1, 2].map(|n| format!("hf://datasets/me/set/data/{n}.tar"))
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn secrets_of_the_environment_are_hidden_wherever_they_show() {
    let variables = [("MY_TOKEN", "a-long-secret"), ("WDS_PATH", "a-long-secret")];
    let sources = spec::expand(
        &["http://host/${PATH}/0.tar".into()],
        &access(eager(), &variables),
    )
    .unwrap();
    assert_eq!(sources[0].name(), "http://host/***/0.tar");
    let shown = format!("{:?} {:?}", sources, access(eager(), &variables));
    assert!(!shown.contains("a-long-secret"), "{shown}");
    // A variable that sounds like a secret and holds a path holds none.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let variables = [("PWD", &*path), ("HF_TOKEN_PATH", &*path)];
    let access = access(eager(), &variables);
    let sources = spec::expand(&[format!("pipe:cat {path}/0.tar")], &access).unwrap();
    assert_eq!(sources[0].name(), format!("pipe:cat {path}/0.tar"));
    assert_eq!(Cause::RetriedServer.to_string(), "server, tried again");
}
