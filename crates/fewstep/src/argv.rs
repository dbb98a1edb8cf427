//! Long flags with `_` or `-` alike.
//!
//! The flags are declared with underscores, the reference's way. What a person wrote is changed only where
//! it then is the name of a flag: values stay as they are, and an unknown flag is shown as it was written.

use std::ffi::{OsStr, OsString};

/// The words with the hyphens inside of known long flags turned into underscores.
///
/// `known` holds the flags' names with underscores and without the leading hyphens. Words after a bare
/// `--` are values.
pub(crate) fn underscored(words: impl Iterator<Item = OsString>, known: &[String]) -> Vec<OsString> {
    let mut values_only = false;
    words
        .map(|word| {
            values_only |= word == OsStr::new("--");
            match rename(&word, known) {
                Some(flag) if !values_only => flag,
                _ => word,
            }
        })
        .collect()
}

/// `--train-batch-size=4` as `--train_batch_size=4`, if that is a flag.
fn rename(word: &OsStr, known: &[String]) -> Option<OsString> {
    let body = word.to_str()?.strip_prefix("--")?;
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    let name = name.replace('-', "_");
    known.contains(&name).then(|| match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(words: &[&str]) -> Vec<String> {
        let known = ["train_batch_size", "output_dir", "help"].map(str::to_owned);
        underscored(words.iter().map(OsString::from), &known)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn only_the_names_of_flags_change() {
        assert_eq!(
            renamed(&[
                "fewstep",
                "train",
                "--train-batch-size",
                "4",
                "--output-dir=my-run"
            ]),
            [
                "fewstep",
                "train",
                "--train_batch_size",
                "4",
                "--output_dir=my-run"
            ]
        );
        assert_eq!(
            renamed(&["--no-such-flag", "a-b", "-o-p"]),
            ["--no-such-flag", "a-b", "-o-p"]
        );
        assert_eq!(renamed(&["--", "--output-dir"]), ["--", "--output-dir"]);
    }
}
