//! The teacher's tokenizer: CLIP's byte-pair encoding, with merges that make each word of the small world
//! one token. Written as the files that transformers and [`fewstep_models::clip::ClipTokenizer`] read.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use fewstep_models::weights::{write_atomic, write_json_atomic};
use serde_json::{Map, Value, json};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// What CLIP's encoding puts at the end of a word's last piece.
const WORD_END: &str = "</w>";

/// A vocabulary of letters, pieces and whole words, and the merges that lead from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Tokens in the order of their ids.
    tokens: Vec<String>,
    merges: Vec<[String; 2]>,
}

impl Vocabulary {
    /// Learns merges as byte-pair encoding does (the most frequent pair of neighbours first), until every
    /// word is one token. Encoding repeats the same merges in the same order, so it ends there as well.
    pub fn of_words(words: &[&str]) -> Self {
        let letters = 'a'..='z';
        let mut tokens: Vec<String> = letters.clone().map(String::from).collect();
        tokens.extend(letters.map(|c| format!("{c}{WORD_END}")));
        let mut pieces: Vec<Vec<String>> = words.iter().map(|word| split(word)).collect();
        let mut merges = Vec::new();
        while let Some(pair) = most_frequent_pair(&pieces) {
            for word in &mut pieces {
                merge(word, &pair);
            }
            tokens.push(pair.concat());
            merges.push(pair);
        }
        tokens.extend([START, END].map(String::from));
        Vocabulary { tokens, merges }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token; there always is.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The id of the token before every text.
    pub fn start_id(&self) -> usize {
        self.tokens.len() - 2
    }

    /// The id of the token after every text, which fills up short ones too.
    pub fn end_id(&self) -> usize {
        self.tokens.len() - 1
    }

    /// Writes the four files of a tokenizer for texts of `max_length` tokens, start and end included.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn save(&self, folder: &Path, max_length: i64) -> Result<()> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} could not be made", folder.display()))?;
        let vocab: Map<String, Value> = self.tokens.iter().cloned().zip((0..).map(Value::from)).collect();
        write_json_atomic(&folder.join("vocab.json"), &Value::Object(vocab))?;
        let merges: String = self.merges.iter().map(|[a, b]| format!("{a} {b}\n")).collect();
        write_atomic(&folder.join("merges.txt"), |file| {
            write!(file, "#version: 0.2\n{merges}").context("merges.txt could not be written")
        })?;
        let special = |content: &str| json!({"content": content, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false});
        let tokens = json!({
            "bos_token": special(START),
            "eos_token": special(END),
            "pad_token": END,
            "unk_token": special(END),
        });
        write_json_atomic(&folder.join("special_tokens_map.json"), &tokens)?;
        let config = json!({
            "add_prefix_space": false,
            "bos_token": START,
            "do_lower_case": true,
            "eos_token": END,
            "errors": "replace",
            "model_max_length": max_length,
            "pad_token": END,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": END,
        });
        write_json_atomic(&folder.join("tokenizer_config.json"), &config)?;
        Ok(())
    }
}

/// A word's letters, the last with the mark of a word's end.
fn split(word: &str) -> Vec<String> {
    let mut letters: Vec<String> = word.chars().map(String::from).collect();
    if let Some(last) = letters.last_mut() {
        last.push_str(WORD_END);
    }
    letters
}

/// The pair of neighbours that occurs most often; of several the first in the alphabet.
fn most_frequent_pair(words: &[Vec<String>]) -> Option<[String; 2]> {
    let mut counts = BTreeMap::new();
    for pair in words.iter().flat_map(|word| word.windows(2)) {
        *counts.entry([pair[0].clone(), pair[1].clone()]).or_insert(0) += 1;
    }
    let mut best: Option<([String; 2], i32)> = None;
    for (pair, count) in counts {
        if best.as_ref().is_none_or(|(_, most)| count > *most) {
            best = Some((pair, count));
        }
    }
    best.map(|(pair, _)| pair)
}

/// Joins every occurrence of the pair in the word, from the left.
fn merge(word: &mut Vec<String>, pair: &[String; 2]) {
    let mut i = 0;
    while i + 1 < word.len() {
        if word[i] == pair[0] && word[i + 1] == pair[1] {
            word[i] = pair.concat();
            word.remove(i + 1);
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Scene, caption, words};
    use fewstep_models::clip::ClipTokenizer;

    #[test]
    fn every_word_is_one_token() {
        let vocabulary = Vocabulary::of_words(&words());
        let folder = tempfile::tempdir().unwrap();
        vocabulary.save(folder.path(), 20).unwrap();
        let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
        let id = |token: &str| vocabulary.tokens.iter().position(|t| t == token).unwrap() as i64;
        for number in 0..50 {
            let caption = caption(&Scene::draw(3, number));
            let mut wanted = vec![vocabulary.start_id() as i64];
            wanted.extend(caption.split(' ').map(|word| id(&format!("{word}{WORD_END}"))));
            wanted.resize(20, vocabulary.end_id() as i64);
            let ids = Vec::<i64>::try_from(tokenizer.encode(&[caption]).unwrap().view(-1)).unwrap();
            assert_eq!(ids, wanted);
        }
    }

    #[test]
    fn other_words_fall_into_known_pieces() {
        let vocabulary = Vocabulary::of_words(&["red", "green", "ring"]);
        let folder = tempfile::tempdir().unwrap();
        vocabulary.save(folder.path(), 12).unwrap();
        let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
        let ids = Vec::<i64>::try_from(tokenizer.encode(&["greed"]).unwrap().view(-1)).unwrap();
        let tokens: Vec<&str> = ids
            .iter()
            .map(|&i| vocabulary.tokens[i as usize].as_str())
            .collect();
        let word: String = tokens.iter().filter(|t| !t.starts_with("<|")).copied().collect();
        assert_eq!(word, "greed</w>");
    }
}
