//! Any text as a shard spec: braces, lists, folders. Nothing is opened.

#![no_main]

use fewstep_data::spec::{expand, expand_braces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|spec: &str| {
    let names = expand_braces(spec);
    if let Ok(names) = &names {
        assert!(!names.is_empty());
        if !spec.contains(['{', '}']) {
            assert_eq!(names, &[spec]);
        }
    }
    // Each name is looked up in the file system, which has nothing to find in so many.
    if names.map_or(true, |names| names.len() < 1000) {
        let _ = expand(&[spec.to_owned()]);
    }
});
