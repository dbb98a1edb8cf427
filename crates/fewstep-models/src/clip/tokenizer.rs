//! CLIP's tokenizer: text to ids by lower-casing, splitting, and byte-level byte-pair encoding.
//!
//! The parts come from the `tokenizers` crate, put together as transformers' CLIPTokenizer does. It knows
//! nothing of the model that takes the ids.

use std::path::Path;

use tch::Tensor;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{self, Lowercase, NFC, Replace, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::vocabulary::Vocabulary;
use crate::weights::ModelError;

/// The pieces of a text: special tokens, English endings, words, single digits, runs of anything else.
const PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Texts to token ids of one length.
#[derive(Debug)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    max_length: usize,
}

impl ClipTokenizer {
    /// The tokenizer in a folder with vocab.json and merges.txt, or with tokenizer.json, which comes first.
    ///
    /// # Errors
    /// A file that is missing or does not hold what it should.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let vocabulary = Vocabulary::read(folder)?;
        let wrong = |error: tokenizers::Error| {
            ModelError::malformed(folder, format_args!("does not hold a CLIP tokenizer: {error}"))
        };
        let model = BPE::builder()
            .vocab_and_merges(vocabulary.vocab, vocabulary.merges)
            .unk_token(vocabulary.unk)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .build()
            .map_err(wrong)?;
        let mut tokenizer = Tokenizer::new(model);
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(wrong)?;
        tokenizer.with_normalizer(Some(normalizers::Sequence::new(vec![
            NFC.into(),
            spaces.into(),
            Lowercase.into(),
        ])));
        let pattern = SplitPattern::Regex(PIECES.to_owned());
        let pieces = Split::new(pattern, SplitDelimiterBehavior::Removed, true).map_err(wrong)?;
        let bytes = ByteLevel::new(false, true, true);
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![pieces.into(), bytes.into()])));
        tokenizer.add_tokens(&vocabulary.added);
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| {
                ModelError::malformed(folder, format_args!("has no id for its special token {token:?}"))
            })
        };
        Ok(ClipTokenizer {
            bos: id(&vocabulary.bos)?,
            eos: id(&vocabulary.eos)?,
            pad: id(&vocabulary.pad)?,
            max_length: vocabulary.max_length,
            tokenizer,
        })
    }

    /// Tokens of every text, with its begin, its end and the padding.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The ids of texts, `[B, max_length]` (i64): begin, as much of the text as fits, end, padding.
    ///
    /// # Errors
    /// A text with a character that the vocabulary has no token for, not even the unknown one.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor, ModelError> {
        let mut ids = Vec::with_capacity(texts.len() * self.max_length);
        for text in texts {
            self.append(text.as_ref(), &mut ids)?;
        }
        let ids = Tensor::f_from_slice(&ids)?;
        Ok(ids.f_view([texts.len() as i64, self.max_length as i64])?)
    }

    /// Appends one text's ids, exactly `max_length`.
    fn append(&self, text: &str, ids: &mut Vec<i64>) -> Result<(), ModelError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| {
            ModelError::input(format!("the text {text:?}"), format!("has no tokens: {error}"))
        })?;
        let end = ids.len() + self.max_length;
        let tokens = encoding.get_ids().iter().take(self.max_length - 2);
        ids.push(self.bos.into());
        ids.extend(tokens.map(|&id| i64::from(id)));
        ids.push(self.eos.into());
        ids.resize(end, self.pad.into());
        Ok(())
    }
}
