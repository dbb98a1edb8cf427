//! Any files as a tokenizer's folder, and a text for it. A line `=== NAME` begins the file of that name, `=== text` the text.

#![no_main]

use std::collections::BTreeMap;
use std::fs;

use fewstep_fuzz::{file, first_line, folder};
use fewstep_models::clip::ClipTokenizer;
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 6] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// Longer texts are cut by the tokenizer, and take memory here.
const LONGEST: usize = 10_000;

fuzz_target!(|input: &[u8]| {
    let parts = parts(input);
    for name in FILES {
        let name = format!("tokenizer/{name}");
        match parts.get(name.trim_start_matches("tokenizer/").as_bytes()) {
            Some(bytes) => drop(file(&name, bytes)),
            None => drop(fs::remove_file(folder().join(name))),
        }
    }
    let Ok(tokenizer) = ClipTokenizer::load(&folder().join("tokenizer")) else {
        return;
    };
    let text = String::from_utf8_lossy(parts.get(&b"text"[..]).map_or(&[], Vec::as_slice)).into_owned();
    if tokenizer.max_length() <= LONGEST
        && let Ok(ids) = tokenizer.encode(&[text.as_str(), ""])
    {
        assert_eq!(ids.size(), [2, tokenizer.max_length() as i64]);
        assert!(i64::try_from(ids.min()).expect("a number") >= 0);
    }
});

/// The files by name.
fn parts(mut rest: &[u8]) -> BTreeMap<&[u8], Vec<u8>> {
    let mut parts: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    let mut name: &[u8] = b"text";
    while !rest.is_empty() {
        let (line, after) = first_line(rest);
        if let Some(next) = line.strip_prefix(b"=== ") {
            name = next;
        } else {
            let ends = rest.len() > line.len();
            let part = parts.entry(name).or_default();
            part.extend_from_slice(line);
            part.extend(ends.then_some(b'\n'));
        }
        rest = after;
    }
    parts
}
