//! A CLIP tokenizer's special and added tokens, which its files name in several places and several ways. What
//! counts where, and which comes first, is as in transformers 5.
//!
//! It knows these files only; the vocabulary and the merges are read beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use super::vocabulary::parse_vocab;
use crate::weights::{ModelError, read_json};

/// An added token as an object with its content and how it is found in a text. Whether it is special decides,
/// where the object does not say, whether it is found as it stands or in any case.
pub(super) fn parse_added(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(special);
    let token = AddedToken::from(value.get("content")?.as_str()?, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special));
    Some(token)
}

/// The named special tokens, and all that are found in a text as a whole.
#[derive(Debug)]
pub(super) struct Special {
    pub(super) bos: AddedToken,
    pub(super) eos: AddedToken,
    pub(super) unk: AddedToken,
    pub(super) pad: AddedToken,
    /// By id, as files list them.
    listed: BTreeMap<u32, AddedToken>,
}

impl Special {
    /// tokenizer_config.json alone where it lists added tokens, as files since transformers 4.34 do; else
    /// special_tokens_map.json, added_tokens.json and `stored` from tokenizer.json have their say too.
    pub(super) fn read(
        folder: &Path,
        config: &Value,
        stored: BTreeMap<u32, AddedToken>,
    ) -> Result<Self, ModelError> {
        let mut listed = BTreeMap::new();
        let mut map = Value::Null;
        if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
            for (id, token) in decoder {
                let (Ok(id), Some(token)) = (id.parse(), parse_added(token, false)) else {
                    let path = folder.join("tokenizer_config.json");
                    let problem = format_args!("has a wrong entry in added_tokens_decoder: {id:?}: {token}");
                    return Err(ModelError::malformed(&path, problem));
                };
                listed.insert(id, token);
            }
        } else {
            let path = folder.join("special_tokens_map.json");
            if path.is_file() {
                map = read_json(&path, "")?;
            }
        }
        let named = |name: &str, default: &str| {
            let mapped = map.get(name).filter(|value| !value.is_null());
            named(mapped.or(config.get(name)), mapped.is_some(), default)
                .ok_or_else(|| {
                    let problem = "is neither text nor an object with `content`";
                    ModelError::option("CLIPTokenizer", name, problem)
                })
                .map_err(|error| error.in_file(folder))
        };
        let mut special = Special {
            bos: named("bos_token", "<|startoftext|>")?,
            eos: named("eos_token", "<|endoftext|>")?,
            unk: named("unk_token", "<|endoftext|>")?,
            pad: named("pad_token", "<|endoftext|>")?,
            listed,
        };
        if config.get("added_tokens_decoder").is_none() {
            special.list_older(folder, stored)?;
        }
        Ok(special)
    }

    /// Lists the tokens of added_tokens.json, then those of tokenizer.json.
    fn list_older(&mut self, folder: &Path, stored: BTreeMap<u32, AddedToken>) -> Result<(), ModelError> {
        let path = folder.join("added_tokens.json");
        if path.is_file() {
            for (content, id) in parse_vocab(&path, Some(&read_json(&path, "")?))? {
                let special = self.named().iter().any(|named| named.content == content);
                self.listed.insert(id, AddedToken::from(content, special));
            }
        }
        self.listed.extend(stored);
        Ok(())
    }

    fn named(&self) -> [&AddedToken; 4] {
        [&self.bos, &self.eos, &self.unk, &self.pad]
    }

    /// Listed tokens by id, then those that have a name only. A token with a name is special.
    pub(super) fn in_order(&self) -> Vec<AddedToken> {
        let mut tokens: Vec<AddedToken> = self.listed.values().cloned().collect();
        for token in &mut tokens {
            token.special |= self.named().iter().any(|named| named.content == token.content);
        }
        let listed = tokens.len();
        for named in self.named() {
            let same = tokens.iter().position(|token| token.content == named.content);
            match same {
                // How a listed token is found, its list says; of two names for one token, the later.
                Some(place) if place < listed => {}
                Some(place) => tokens[place] = named.clone(),
                None => tokens.push(named.clone()),
            }
        }
        tokens
    }
}

/// A special token given as text or as an object.
fn named(value: Option<&Value>, special: bool, default: &str) -> Option<AddedToken> {
    let mut token = match value {
        None | Some(Value::Null) => AddedToken::from(default, true),
        Some(Value::String(text)) => AddedToken::from(text.as_str(), true),
        Some(other) => parse_added(other, special)?,
    };
    token.special = true;
    Some(token)
}
