//! The files of a CLIP tokenizer: its vocabulary and merges, and what its configuration says of lengths.
//!
//! It knows files; what becomes of a text, the tokenizer knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::special::{Special, parse_added};
use crate::weights::{ModelError, Options, read_json, read_text};

/// CLIP's longest text, where tokenizer_config.json does not say.
const DEFAULT_MAX_LENGTH: usize = 77;

/// Transformers writes "no limit" as a number of this kind.
const NO_LIMIT: f64 = 1e6;

/// Everything that a tokenizer's folder says.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// Token to id.
    pub(super) vocab: Vocab,
    /// Pairs that are joined, the most frequent first.
    pub(super) merges: Merges,
    /// Begins every text.
    pub(super) bos: String,
    /// Ends every text.
    pub(super) eos: String,
    /// Stands for what the vocabulary lacks.
    pub(super) unk: String,
    /// Fills texts up.
    pub(super) pad: String,
    /// Tokens that are found in a text before it is split, in the order in which they get ids.
    pub(super) added: Vec<AddedToken>,
    /// Tokens of every text, with its begin and end.
    pub(super) max_length: usize,
}

impl Vocabulary {
    /// Reads tokenizer.json, or else vocab.json and merges.txt; then tokenizer_config.json and
    /// special_tokens_map.json, each of which may be missing.
    pub(super) fn read(folder: &Path) -> Result<Self, ModelError> {
        if !folder.is_dir() {
            return Err(ModelError::Missing {
                path: folder.to_owned(),
                remedy: "it must be a tokenizer's folder, with vocab.json and merges.txt".to_owned(),
            });
        }
        let whole = folder.join("tokenizer.json");
        let (vocab, merges, stored) = match whole.is_file() {
            true => read_whole(&whole)?,
            false => {
                let (vocab, merges) = read_pair(folder)?;
                (vocab, merges, BTreeMap::new())
            }
        };
        let path = folder.join("tokenizer_config.json");
        let config = match path.is_file() {
            true => read_json(&path, "")?,
            false => Value::Object(Map::new()),
        };
        let max_length = read_config(&config).map_err(|error| error.in_file(&path))?;
        let special = Special::read(folder, &config, stored)?;
        Ok(Vocabulary {
            vocab,
            merges,
            bos: special.bos.content.clone(),
            eos: special.eos.content.clone(),
            unk: special.unk.content.clone(),
            pad: special.pad.content.clone(),
            added: special.in_order(),
            max_length,
        })
    }
}

/// The longest text that the configuration allows; refuses what we do not do.
fn read_config(config: &Value) -> Result<usize, ModelError> {
    let options = Options::new("CLIPTokenizer", config)?;
    options.only("padding_side", &["right".into()])?;
    options.only("truncation_side", &["right".into()])?;
    options.only("split_special_tokens", &[false.into()])?;
    match options.float("model_max_length")? {
        None => Ok(DEFAULT_MAX_LENGTH),
        Some(length) if length > NO_LIMIT => Ok(DEFAULT_MAX_LENGTH),
        Some(length) if length >= 2.0 && length.fract() == 0.0 => Ok(length as usize),
        Some(length) => {
            let problem =
                format!("is {length}, but must be a whole number from 2, for begin and end of a text");
            Err(options.error("model_max_length", problem))
        }
    }
}

fn read_pair(folder: &Path) -> Result<(Vocab, Merges), ModelError> {
    let path = folder.join("vocab.json");
    let value = read_json(&path, "a CLIP tokenizer has it, or else tokenizer.json")?;
    let vocab = parse_vocab(&path, Some(&value))?;
    let path = folder.join("merges.txt");
    if !path.is_file() {
        let remedy = "a CLIP tokenizer has it beside vocab.json".to_owned();
        return Err(ModelError::Missing { path, remedy });
    }
    let text = read_text(&path)?;
    let mut merges = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        let pair = pair(line).ok_or_else(|| {
            let problem = format_args!("does not hold two tokens in line {}, but {line:?}", i + 1);
            ModelError::malformed(&path, problem)
        })?;
        merges.push(pair);
    }
    Ok((vocab, merges))
}

/// Vocabulary, merges and added tokens from the one file that newer transformers write.
fn read_whole(path: &Path) -> Result<(Vocab, Merges, BTreeMap<u32, AddedToken>), ModelError> {
    let value = read_json(path, "")?;
    let model = value.get("model");
    let vocab = parse_vocab(path, model.and_then(|model| model.get("vocab")))?;
    let merges = model
        .and_then(|model| model.get("merges"))
        .and_then(Value::as_array);
    let merges = merges.map(|merges| {
        let merge = |merge: &Value| match merge {
            Value::String(text) => pair(text),
            Value::Array(two) => match two.as_slice() {
                [a, b] => Some((a.as_str()?.to_owned(), b.as_str()?.to_owned())),
                _ => None,
            },
            _ => None,
        };
        merges.iter().map(merge).collect::<Option<Merges>>()
    });
    let Some(Some(merges)) = merges else {
        return Err(ModelError::malformed(
            path,
            "has no list of merges, each of two tokens",
        ));
    };
    let mut added = BTreeMap::new();
    for token in value
        .get("added_tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let id = token
            .get("id")
            .and_then(Value::as_u64)
            .and_then(|id| u32::try_from(id).ok());
        let (Some(id), Some(token)) = (id, parse_added(token, false)) else {
            return Err(ModelError::malformed(
                path,
                format_args!("has a wrong entry in added_tokens: {token}"),
            ));
        };
        added.insert(id, token);
    }
    Ok((vocab, merges, added))
}

pub(super) fn parse_vocab(path: &Path, value: Option<&Value>) -> Result<Vocab, ModelError> {
    let Some(Value::Object(map)) = value else {
        return Err(ModelError::malformed(
            path,
            "has no vocabulary from tokens to ids",
        ));
    };
    let mut vocab = Vocab::new();
    for (token, id) in map {
        let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
            let problem = format_args!("gives token {token:?} the id {id}, which is not one");
            return Err(ModelError::malformed(path, problem));
        };
        vocab.insert(token.clone(), id);
    }
    Ok(vocab)
}

fn pair(line: &str) -> Option<(String, String)> {
    let (first, second) = line.split_once(' ')?;
    (!first.is_empty() && !second.is_empty() && !second.contains(' '))
        .then(|| (first.to_owned(), second.to_owned()))
}
