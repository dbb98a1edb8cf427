//! From a name to the sources that it stands for: one for most, every archive for a folder. It knows each kind of place,
//! and nothing of patterns.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;

use super::Source;
use super::access::Access;
use super::failure::{Failed, Failure};
use super::file::File;
use super::http::Http;
use super::hub::HubPath;
use super::once::Once;
use super::patience::answer;
use super::pipe::Pipe;
use super::remote::Remote;
use super::store::{self, Bucket, Object};
use super::transfer::Fetch;
use super::unpack::Unpacked;

/// How the names of archives end, in a folder of which all are taken.
const ARCHIVES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Finding {
    /// These, be they there or not.
    Sources(Vec<Arc<dyn Source>>),
    /// A local file that is not there: when its turn comes it may be.
    Missing(Arc<dyn Source>),
}

/// What `name` stands for. Only folders are looked into; nothing is opened.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence that begins with the name.
pub(crate) fn at(name: &str, access: &Access) -> Result<Finding, String> {
    let one = |fetch: Result<_, String>| Ok(Finding::Sources(vec![fetch?]));
    if name == "-" {
        return one(Ok(remote("-", Once::stdin(), access)));
    }
    match scheme(name) {
        None => local(Path::new(name)),
        Some("file") => {
            let rest = &name["file:".len()..];
            // file:///data/a.tar has an empty host; file://localhost is not worth a rule of its own.
            local(Path::new(rest.strip_prefix("//").unwrap_or(rest)))
        }
        Some("pipe") => one(match name["pipe:".len()..].trim() {
            "" => Err("names no command; write pipe:COMMAND".to_owned()),
            command => Ok(remote(name, Pipe::new(command), access)),
        }),
        Some("http" | "https") => one(url(name).map(|url| remote(name, Http::new(url, access), access))),
        Some("hf") => on_the_hub(name, access),
        Some(scheme) if store::SCHEMES.contains(&scheme) => in_a_store(name, access),
        Some(scheme @ ("ftp" | "ftps" | "sftp" | "scp" | "hdfs" | "ais")) => Err(format!(
            "cannot be read: {scheme}:// needs a program of its own; name it as pipe:COMMAND, with a command that \
             writes the archive to its standard output, such as pipe:curl -s ADDRESS"
        )),
        Some(scheme) => Err(format!(
            "cannot be read: {scheme}:// is not known; there are local paths, file:, http://, https://, s3://, gs://, \
             az://, hf://, pipe:COMMAND and - for standard input"
        )),
    }
}

/// What stands before `://`, or before `:` for the two schemes that are written so.
fn scheme(name: &str) -> Option<&str> {
    let (scheme, rest) = name.split_once(':')?;
    let is_word = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (is_word && (rest.starts_with("//") || matches!(scheme, "file" | "pipe"))).then_some(scheme)
}

fn url(name: &str) -> Result<Url, String> {
    Url::parse(name).map_err(|error| format!("is no address: {error}"))
}

fn remote(name: &str, fetch: impl Fetch + 'static, access: &Access) -> Arc<dyn Source> {
    Arc::new(Unpacked::new(Remote::new(name, fetch, access)))
}

fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ARCHIVES.iter().any(|end| name.ends_with(end))
}

fn local(path: &Path) -> Result<Finding, String> {
    let source = |path: &Path| Arc::new(Unpacked::new(File::new(path))) as Arc<dyn Source>;
    if path.is_dir() {
        let files = archives_in(path).map_err(|error| format!("cannot be listed: {error}"))?;
        return folder(files.iter().map(|path| source(path)).collect());
    }
    Ok(match path.exists() {
        true => Finding::Sources(vec![source(path)]),
        false => Finding::Missing(source(path)),
    })
}

/// Every archive directly in `folder`, by name.
fn archives_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if is_archive(&name.to_string_lossy()) && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn folder(sources: Vec<Arc<dyn Source>>) -> Result<Finding, String> {
    if sources.is_empty() {
        return Err("is a folder that holds no .tar file; name a folder of WebDataset shards".to_owned());
    }
    Ok(Finding::Sources(sources))
}

fn in_a_store(name: &str, access: &Access) -> Result<Finding, String> {
    let url = url(name)?;
    let (bucket, path) = Bucket::open(&url, access)?;
    let object = |path| {
        let bucket = bucket.clone();
        Object { bucket, path }
    };
    if !name.ends_with('/') && url.path().len() > 1 {
        return Ok(Finding::Sources(vec![remote(name, object(path), access)]));
    }
    let (place, start) = (bucket.clone(), path.clone());
    let list = move || place.clone().list(start.clone());
    let mut found = wait(name, access, list)?;
    found.retain(|found| is_archive(found.as_ref()));
    found.sort_unstable();
    let base = name.trim_end_matches('/');
    let source = |found: object_store::path::Path| {
        let below = found
            .as_ref()
            .strip_prefix(path.as_ref())
            .unwrap_or(found.as_ref());
        let name = format!("{base}/{}", below.trim_start_matches('/'));
        remote(&name, object(found), access)
    };
    folder(found.into_iter().map(source).collect())
}

fn on_the_hub(name: &str, access: &Access) -> Result<Finding, String> {
    #[derive(Deserialize)]
    struct Entry {
        path: String,
        #[serde(rename = "type")]
        kind: String,
    }

    let place = HubPath::parse(name)?;
    if !place.is_folder() {
        return Ok(Finding::Sources(vec![remote(name, place.file(access)?, access)]));
    }
    let mut found: Vec<String> = Vec::new();
    let mut next = Some(place.listing(access)?);
    while let Some(request) = next {
        let asked = request.clone();
        let list = move || {
            let asked = asked.clone();
            async move { asked.page().await }
        };
        let (page, more) = wait(name, access, list)?;
        let entries: Vec<Entry> = serde_json::from_slice(&page)
            .map_err(|error| format!("is listed in no way that is known: {error}"))?;
        let files = entries.into_iter().filter(|entry| entry.kind == "file");
        found.extend(files.map(|entry| entry.path).filter(|path| is_archive(path)));
        next = more.map(|url| request.turn_to(url));
    }
    found.sort_unstable();
    let source = |path: &String| {
        let name = place.address_of(path);
        Ok(remote(&name, HubPath::parse(&name)?.file(access)?, access))
    };
    folder(found.iter().map(source).collect::<Result<_, String>>()?)
}

/// Waits for the answer of another machine.
fn wait<T, F>(name: &str, access: &Access, ask: impl Fn() -> F + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let answered = access.wait(answer(access.mask(name), access.clone(), ask));
    let answered = answered.map_err(|error| error.to_string())?;
    answered.map_err(|Failed { what, .. }| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_alone_makes_no_scheme() {
        assert_eq!(scheme("data/12:30.tar"), None);
        assert_eq!(scheme("data:a.tar"), None);
        assert_eq!(scheme("file:a.tar"), Some("file"));
        assert_eq!(scheme("http://a"), Some("http"));
    }
}
