//! Shard specs: from what a user writes to the list of shards, in WebDataset's language. It opens no shard.
//!
//! A spec is one or more parts joined by `::`. Each part undergoes brace expansion as in a shell (`{00000..01099}`
//! with zero padding, `{a,b}`, nested); what results is a local file, with or without `file:` before it, or a folder,
//! which stands for every `*.tar` in it, by name. Nothing here reads a place on another machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::source::{File, Source};

mod braces;

pub use braces::{BraceError, expand_braces};

/// Why a spec stands for no shards.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No spec at all, or only white space.
    #[error(
        "no shards are given; name a .tar file, a folder of them, or a pattern like data/{{00000..00099}}.tar"
    )]
    Empty,
    /// A scheme of a later version.
    #[error(
        "{scheme} shards are not yet supported by this version (in \"{part}\"); copy the shards to a local folder and name that"
    )]
    Scheme {
        /// As the user wrote it, with its colon.
        scheme: String,
        /// The part of the spec.
        part: String,
    },
    /// An environment variable.
    #[error(
        "variables like ${{NAME}} are not yet supported by this version (in \"{part}\"); write out the value"
    )]
    Variable {
        /// The part of the spec.
        part: String,
    },
    /// Braces that do not fit.
    #[error("cannot expand the shard spec \"{part}\": {source}")]
    Braces {
        /// The part of the spec.
        part: String,
        /// What is wrong.
        source: BraceError,
    },
    /// Nothing that the part names exists.
    #[error("the shard spec \"{part}\" matches no file: {missing} not found")]
    NoFile {
        /// The part of the spec.
        part: String,
        /// The files looked for.
        missing: String,
    },
    /// A folder without shards.
    #[error("the folder {} holds no .tar file; name a folder of WebDataset shards", folder.display())]
    EmptyFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that cannot be listed.
    #[error("cannot list the folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The shards that `specs` stand for, in the order written.
///
/// Single files missing from a pattern are no error here: they count as unreadable shards when their turn comes. A
/// part of which no file exists is one.
///
/// # Errors
/// Names the part and what is wrong with it.
pub fn expand(specs: &[String]) -> Result<Vec<Arc<dyn Source>>, SpecError> {
    let mut shards: Vec<Arc<dyn Source>> = Vec::new();
    for part in specs.iter().flat_map(|spec| spec.split("::")).map(str::trim) {
        if !part.is_empty() {
            for path in files(part)? {
                shards.push(Arc::new(File::new(&path)));
            }
        }
    }
    if shards.is_empty() {
        return Err(SpecError::Empty);
    }
    Ok(shards)
}

/// The files that one part names, at least one of which exists.
fn files(part: &str) -> Result<Vec<PathBuf>, SpecError> {
    if part.contains("${") {
        return Err(SpecError::Variable { part: part.into() });
    }
    let names = expand_braces(part).map_err(|source| SpecError::Braces {
        part: part.into(),
        source,
    })?;
    let mut found = Vec::with_capacity(names.len());
    let mut missing = Vec::new();
    for name in &names {
        let path = local_path(name, part)?;
        if path.is_dir() {
            found.extend(tars_in(path)?);
        } else {
            if !path.exists() {
                missing.push(path.display().to_string());
            }
            found.push(path.to_path_buf());
        }
    }
    if missing.len() == found.len() {
        return Err(SpecError::NoFile {
            part: part.into(),
            missing: some_of(&missing),
        });
    }
    Ok(found)
}

/// The path that `name` stands for where it is local.
fn local_path<'a>(name: &'a str, part: &str) -> Result<&'a Path, SpecError> {
    let unsupported = |scheme: &str| {
        Err(SpecError::Scheme {
            scheme: scheme.into(),
            part: part.into(),
        })
    };
    if name == "-" {
        return unsupported("- (standard input)");
    }
    match scheme(name) {
        None => Ok(Path::new(name)),
        Some("file") => {
            let rest = &name["file:".len()..];
            // file:///data/a.tar has an empty host; file://localhost is not worth a rule of its own.
            Ok(Path::new(rest.strip_prefix("//").unwrap_or(rest)))
        }
        Some("pipe") => unsupported("pipe:"),
        Some(remote) => unsupported(&format!("{remote}://")),
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

/// Every `*.tar` directly in `folder`, by name.
fn tars_in(folder: &Path) -> Result<Vec<PathBuf>, SpecError> {
    let fail = |source| SpecError::Folder {
        folder: folder.into(),
        source,
    };
    let mut tars = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "tar") && path.is_file() {
            tars.push(path);
        }
    }
    if tars.is_empty() {
        return Err(SpecError::EmptyFolder {
            folder: folder.into(),
        });
    }
    tars.sort_unstable();
    Ok(tars)
}

/// The first few of `names`, and how many more there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        folder
    }

    fn names(spec: &str, folder: &Path) -> Result<Vec<String>, SpecError> {
        let spec = spec.replace("DIR", folder.to_str().unwrap());
        let prefix = format!("{}/", folder.display());
        Ok(expand(&[spec])?
            .iter()
            .map(|shard| shard.name().replace(&prefix, ""))
            .collect())
    }

    #[test]
    fn patterns_lists_and_folders() {
        let dir = folder_with(&["a-008.tar", "a-009.tar", "a-010.tar", "b.tar", "notes.txt"]);
        let check = |spec, wanted: &[&str]| assert_eq!(names(spec, dir.path()).unwrap(), wanted, "{spec}");
        check("DIR/a-{008..010}.tar", &["a-008.tar", "a-009.tar", "a-010.tar"]);
        check("DIR/b.tar::DIR/a-009.tar", &["b.tar", "a-009.tar"]);
        check("DIR", &["a-008.tar", "a-009.tar", "a-010.tar", "b.tar"]);
        check("file:DIR/b.tar", &["b.tar"]);
        check("file://DIR/b.tar", &["b.tar"]);
        // One that exists is enough; the other is for the loader to count.
        check("DIR/{b,c}.tar", &["b.tar", "c.tar"]);
        let twice = expand(&[
            format!("{}/b.tar", dir.path().display()),
            format!("{}/b.tar", dir.path().display()),
        ]);
        assert_eq!(twice.unwrap().len(), 2);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = folder_with(&[]);
        let message = |spec| names(spec, dir.path()).unwrap_err().to_string();
        assert!(
            message("DIR/x-{00..09}.tar").contains("x-00.tar"),
            "{}",
            message("DIR/x-{00..09}.tar")
        );
        assert!(message("DIR/x-{00..09}.tar").contains("and 7 more not found"));
        assert!(message("DIR").contains("holds no .tar file"));
        assert!(matches!(expand(&[]), Err(SpecError::Empty)));
        assert!(matches!(expand(&[" :: ".into()]), Err(SpecError::Empty)));
        assert!(message("DIR/{0..3.tar").contains("brace"));
    }

    #[test]
    fn schemes_of_later_versions_are_named() {
        for (spec, scheme) in [
            ("pipe:curl -s http://x/{00..09}.tar", "pipe:"),
            ("https://host/a-{0..3}.tar", "https://"),
            ("s3://bucket/a.tar", "s3://"),
            ("gs://bucket/a.tar", "gs://"),
            ("hf://datasets/a/b.tar", "hf://"),
            ("-", "standard input"),
        ] {
            let message = expand(&[spec.into()]).unwrap_err().to_string();
            assert!(
                message.contains("not yet supported by this version") && message.contains(scheme),
                "{message}"
            );
        }
        let message = expand(&["${DATA}/a.tar".into()]).unwrap_err().to_string();
        assert!(
            message.contains("${NAME}") && message.contains("${DATA}/a.tar"),
            "{message}"
        );
    }

    #[test]
    fn a_colon_alone_makes_no_scheme() {
        assert_eq!(scheme("data/12:30.tar"), None);
        assert_eq!(scheme("data:a.tar"), None);
        assert_eq!(scheme("file:a.tar"), Some("file"));
        assert_eq!(scheme("http://a"), Some("http"));
    }
}
