//! Shard specs: from what a user writes to the list of shards, in WebDataset's language. It opens no shard.
//!
//! A spec is one or more parts joined by `::`. In each part `${NAME}` stands for the value of the environment variable
//! `WDS_NAME`; then it undergoes brace expansion as in a shell (`{00000..01099}` with zero padding, `{a,b}`, nested).
//! What results names a place: see [`source`]. A folder stands for every archive in it, by name.

use std::sync::Arc;

use crate::secrets;
use crate::source::{self, Access, Finding, Source};

mod braces;

pub use braces::{BraceError, expand_braces};

/// How often a variable's value may name other variables.
const MOST_SUBSTITUTIONS: usize = 100;

/// Why a spec stands for no shards. Credentials in it are masked.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No spec at all, or only white space.
    #[error(
        "no shards are given; name a .tar file, a folder of them, or a pattern like data/{{00000..00099}}.tar"
    )]
    Empty,
    /// A variable without a value.
    #[error(
        "the shard spec \"{part}\" asks for the environment variable WDS_{name}, which is not set; set it (in a pipe: \
         write ${name} without braces for a variable of the shell)"
    )]
    Variable {
        /// The part of the spec.
        part: String,
        /// The variable, without `WDS_`.
        name: String,
    },
    /// Variables whose values go on naming variables.
    #[error("the variables in the shard spec \"{part}\" stand for one another without end")]
    Circle {
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
    /// A spec copied from where its credentials were masked.
    #[error(
        "the shard spec \"{part}\" has {} where a secret was left out of a configuration or message; write the secret \
         again, or better ${{NAME}} with the variable WDS_NAME set to it",
        secrets::MASK
    )]
    Masked {
        /// The part of the spec.
        part: String,
    },
    /// Standard input more than once.
    #[error("standard input (-) can be read once, and is among the shards more often; name it once")]
    StdinTwice,
    /// A place that cannot be.
    #[error("the shards {name} {why}")]
    Place {
        /// The name, expanded.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing that the part names exists.
    #[error("the shard spec \"{part}\" matches no file: {missing} not found")]
    NoFile {
        /// The part of the spec.
        part: String,
        /// The files looked for.
        missing: String,
    },
}

/// The shards that `specs` stand for, in the order written, to be reached through `access`. Folders of object stores and
/// of the hub are listed for that.
///
/// Single files missing from a pattern are no error here: they count as unreadable shards when their turn comes. A
/// part of which no file exists is one.
///
/// # Errors
/// Names the part and what is wrong with it.
pub fn expand(specs: &[String], access: &Access) -> Result<Vec<Arc<dyn Source>>, SpecError> {
    let mut shards: Vec<Arc<dyn Source>> = Vec::new();
    for part in specs.iter().flat_map(|spec| spec.split("::")).map(str::trim) {
        if !part.is_empty() {
            shards.extend(sources(part, access)?);
        }
    }
    if shards.is_empty() {
        return Err(SpecError::Empty);
    }
    if shards.iter().filter(|shard| shard.name() == "-").count() > 1 {
        return Err(SpecError::StdinTwice);
    }
    Ok(shards)
}

/// The shards of one part. If they are local files, at least one exists.
fn sources(part: &str, access: &Access) -> Result<Vec<Arc<dyn Source>>, SpecError> {
    if secrets::is_masked(part) {
        return Err(SpecError::Masked {
            part: access.mask(part),
        });
    }
    let names = substitute(part, access)?;
    let names = expand_braces(&names).map_err(|source| SpecError::Braces {
        part: access.mask(part),
        source,
    })?;
    let mut found = Vec::with_capacity(names.len());
    let mut missing = Vec::new();
    for name in &names {
        let at = source::at(name, access).map_err(|why| SpecError::Place {
            name: access.mask(name),
            why: access.mask(&why),
        })?;
        match at {
            Finding::Sources(sources) => found.extend(sources),
            Finding::Missing(source) => {
                missing.push(source.name().to_owned());
                found.push(source);
            }
        }
    }
    if missing.len() == found.len() {
        return Err(SpecError::NoFile {
            part: access.mask(part),
            missing: access.mask(&some_of(&missing)),
        });
    }
    Ok(found)
}

/// `part` with the values of the variables that it names in place of `${NAME}`.
fn substitute(part: &str, access: &Access) -> Result<String, SpecError> {
    let mut text = part.to_owned();
    for _ in 0..MOST_SUBSTITUTIONS {
        let Some((range, name)) = variable(&text) else {
            return Ok(text);
        };
        let value = access.environment().get(&format!("WDS_{name}"));
        let value = value.ok_or_else(|| SpecError::Variable {
            part: access.mask(part),
            name: name.to_owned(),
        })?;
        text = format!("{}{value}{}", &text[..range.start], &text[range.end..]);
    }
    Err(SpecError::Circle {
        part: access.mask(part),
    })
}

/// The first `${NAME}` of a text: where it stands, and its name.
fn variable(text: &str) -> Option<(std::ops::Range<usize>, &str)> {
    let is_word =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices("${").find_map(|(start, _)| {
        let length = text[start + 2..].find('}')?;
        let name = &text[start + 2..][..length];
        is_word(name).then_some((start..start + 2 + length + 1, name))
    })
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
    use std::path::Path;

    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        folder
    }

    fn access(variables: &[(&str, &str)]) -> Access {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Access::new(Default::default(), variables.iter().map(own).collect())
    }

    /// The names that a spec without variables expands to, without the folder's.
    fn names(spec: &str, folder: &Path) -> Result<Vec<String>, SpecError> {
        let spec = spec.replace("DIR", folder.to_str().unwrap());
        let prefix = format!("{}/", folder.display());
        Ok(expand(&[spec], &access(&[]))?
            .iter()
            .map(|shard| shard.name().replace(&prefix, ""))
            .collect())
    }

    fn error(spec: &str) -> String {
        expand(&[spec.into()], &access(&[])).unwrap_err().to_string()
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
        check("DIR/b.tar::DIR/b.tar", &["b.tar", "b.tar"]);
        let packed = folder_with(&[
            "0.tar.gz",
            "1.tgz",
            "2.tar.zst",
            "3.tzst",
            "4.TAR",
            "x.gz",
            "x.tar.txt",
        ]);
        assert_eq!(names("DIR", packed.path()).unwrap().len(), 5);
    }

    #[test]
    fn places_elsewhere_keep_their_names() {
        let check = |spec: &str, wanted: &[&str]| {
            let shards = expand(&[spec.into()], &access(&[("AZURE_STORAGE_ACCOUNT_NAME", "box")])).unwrap();
            let names: Vec<&str> = shards.iter().map(|shard| shard.name()).collect();
            assert_eq!(names, wanted);
        };
        check(
            "pipe:curl -L -s https://hub/data/{00..01}.tar?download=true",
            &[
                "pipe:curl -L -s https://hub/data/00.tar?download=true",
                "pipe:curl -L -s https://hub/data/01.tar?download=true",
            ],
        );
        check(
            "https://host/{a,b}.tar::-",
            &["https://host/a.tar", "https://host/b.tar", "-"],
        );
        for spec in [
            "s3://bucket/a.tar",
            "gs://bucket/a.tar",
            "az://container/a.tar",
            "hf://datasets/a/b/c.tar",
        ] {
            check(spec, &[spec]);
        }
        check("http://me:word@host/a.tar", &["http://***@host/a.tar"]);
    }

    #[test]
    fn variables_are_those_of_webdataset() {
        let access = access(&[
            ("WDS_ROOT", "https://${HOST}/{0..1}"),
            ("WDS_HOST", "h"),
            ("WDS_LOOP", "${LOOP}"),
        ]);
        let names = |spec: &str| {
            let shards = expand(&[spec.into()], &access)?;
            Ok::<_, SpecError>(
                shards
                    .iter()
                    .map(|shard| shard.name().to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            names("${ROOT}/a.tar").unwrap(),
            ["https://h/0/a.tar", "https://h/1/a.tar"]
        );
        let message = names("${NONE}/a.tar").unwrap_err().to_string();
        assert!(message.contains("WDS_NONE, which is not set"), "{message}");
        assert!(matches!(names("${LOOP}"), Err(SpecError::Circle { .. })));
        // What is no name is the shell's.
        assert_eq!(
            names("pipe:cat $A ${A:-b}.tar").unwrap(),
            ["pipe:cat $A ${A:-b}.tar"]
        );
    }

    #[test]
    fn values_of_secret_variables_are_in_no_message() {
        let secret = "swordfish-swordfish";
        let access = access(&[("WDS_TOKEN", secret), ("WDS_LOOP", "${LOOP}")]);
        for spec in [
            "no-such-folder/${TOKEN}.tar".to_owned(),
            format!("no-such-folder/{secret}.tar"),
            format!("{secret}{{"),
            format!("{secret}${{LOOP}}"),
            format!("{secret}${{UNSET}}"),
            format!("{secret}***"),
            format!("ftp://{secret}/"),
        ] {
            let message = expand(std::slice::from_ref(&spec), &access)
                .unwrap_err()
                .to_string();
            assert!(!message.contains(secret), "{message}");
        }
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
        assert!(matches!(expand(&[], &access(&[])), Err(SpecError::Empty)));
        assert!(matches!(
            expand(&[" :: ".into()], &access(&[])),
            Err(SpecError::Empty)
        ));
        assert!(message("DIR/{0..3.tar").contains("brace"));
    }

    #[test]
    fn what_cannot_be_a_place_is_told_with_a_way_out() {
        for (spec, words) in [
            ("sftp://host/a.tar", "pipe:curl -s ADDRESS"),
            ("gopher://host/a.tar", "s3://"),
            ("pipe: ", "names no command"),
            ("hf://datasets/a", "hf://datasets/OWNER/NAME/PATH"),
            ("http://", "is no address"),
            ("-::-", "name it once"),
            ("https://***@host/a.tar", "write the secret again"),
        ] {
            let message = error(spec);
            assert!(message.contains(words), "{message}");
        }
        let message = error("sftp://me:word@host/{0..9}.tar");
        assert!(!message.contains("word"), "{message}");
    }
}
