//! Any text as a shard spec: braces, lists, folders, variables, addresses, and the masking of secrets in it. Nothing is
//! opened, no command run and no server asked, for the access is closed.

#![no_main]

use fewstep_data::secrets::mask;
use fewstep_data::source::Access;
use fewstep_data::spec::{BraceError, expand, expand_braces};
use libfuzzer_sys::fuzz_target;

/// Each name is looked up in the file system or makes a client, which has nothing to find in so many.
const MOST: usize = 50;

const VARIABLES: [(&str, &str); 5] = [
    ("WDS_A", "a.tar"),
    ("WDS_B", "{0..3}"),
    ("WDS_C", "${A}${B}"),
    ("WDS_D", "${D}"),
    ("WDS_TOKEN", "hf_0123456789abcdefghij"),
];

fuzz_target!(|spec: &str| {
    if let Ok(names) = expand_braces(spec) {
        assert!(!names.is_empty());
        if !spec.contains(['{', '}']) {
            assert_eq!(names, [spec]);
        }
    }
    let is_cheap = spec.split("::").all(|part| match expand_braces(part.trim()) {
        Ok(names) => names.len() < MOST,
        Err(error) => !matches!(error, BraceError::TooMany | BraceError::TooLong),
    });
    if is_cheap && spec.matches("${").count() < 4 {
        let variables = VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let access = Access::new(Default::default(), variables.into_iter().collect());
        access.close();
        if let Err(error) = expand(&[spec.to_owned()], &access) {
            assert!(!error.to_string().contains(VARIABLES[4].1), "a secret is shown");
        }
    }
    if spec.len() < 1000 {
        let masked = mask(spec);
        assert_eq!(mask(&masked), masked);
    }
});
