//! A vocabulary of our own making in the form of CLIP's: CLIP's own was learned from its captions, and is not
//! ours to give.
//!
//! Like CLIP's it begins with the 256 bytes (`!` is 0), then the same at the end of a word, then what merges
//! make, and ends with the two special tokens. The merges are all pairs of small letters, all triples, and so
//! on in the order of the alphabet, as many as there is room for.

use serde_json::{Map, Value};

use super::text::{END, START};

/// The bytes that CLIP shows as themselves; the rest are shown as characters from 256 on.
const PRINTABLE: [std::ops::RangeInclusive<u32>; 3] = [0x21..=0x7e, 0xa1..=0xac, 0xae..=0xff];
/// Marks a token as the end of a word.
const WORD_END: &str = "</w>";

/// The contents of vocab.json and merges.txt for a vocabulary of `size` tokens, at least 514.
pub(super) fn files(size: usize) -> (Value, String) {
    let bytes = byte_characters();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    tokens.extend(bytes.iter().map(|byte| format!("{byte}{WORD_END}")));
    let mut lines = String::from("#version: 0.2\n");
    for (left, right) in merges().take(size.saturating_sub(tokens.len() + 2)) {
        lines.push_str(&format!("{left} {right}\n"));
        tokens.push(left + &right);
    }
    tokens.extend([START.to_owned(), END.to_owned()]);
    let ids = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, id.into()));
    (Value::Object(Map::from_iter(ids)), lines)
}

/// The characters that stand for the 256 bytes: those that can be printed first.
fn byte_characters() -> Vec<char> {
    let printable = PRINTABLE.into_iter().flatten();
    let rest = 256..256 + (256 - PRINTABLE.into_iter().flatten().count() as u32);
    printable.chain(rest).filter_map(char::from_u32).collect()
}

/// Pairs to merge, without end: for each length from two, every string of letters as its beginning and its
/// last letter, first within a word and then at its end.
fn merges() -> impl Iterator<Item = (String, String)> {
    (1..).flat_map(|length| {
        let within =
            strings(length).flat_map(|start| letters().map(move |last| (start.clone(), last.to_string())));
        let at_end = strings(length)
            .flat_map(|start| letters().map(move |last| (start.clone(), format!("{last}{WORD_END}"))));
        within.chain(at_end)
    })
}

/// All strings of `length` small letters, in the order of the alphabet.
fn strings(length: u32) -> impl Iterator<Item = String> {
    (0..26_u32.pow(length)).map(move |number| {
        let digit = |place: u32| number / 26_u32.pow(place) % 26;
        (0..length)
            .rev()
            .filter_map(|place| char::from_u32('a' as u32 + digit(place)))
            .collect()
    })
}

fn letters() -> impl Iterator<Item = char> {
    'a'..='z'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_where_clip_has_them() {
        let (vocab, merges) = files(49408);
        let vocab = vocab.as_object().unwrap();
        // Equal tokens would have collapsed into one entry.
        assert_eq!(vocab.len(), 49408);
        assert_eq!(vocab["!"], 0);
        assert_eq!(vocab["!</w>"], 256);
        assert_eq!(vocab[START], 49406);
        assert_eq!(vocab[END], 49407);
        let mut lines = merges.lines();
        assert_eq!(lines.next(), Some("#version: 0.2"));
        for (line, id) in lines.zip(512..) {
            let (left, right) = line.split_once(' ').unwrap();
            assert!(vocab.contains_key(left) && vocab.contains_key(right), "{line}");
            assert_eq!(vocab[&format!("{left}{right}")], id, "{line}");
        }
    }
}
