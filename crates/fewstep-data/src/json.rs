//! The JSON beside a picture, as img2dataset and others write it. It knows nothing of what is asked of it.

use serde_json::{Map, Value};

/// An object.
#[derive(Debug)]
pub(crate) struct Json(Map<String, Value>);

impl Json {
    /// Reads an object. Python writes NaN and Infinity, which are no JSON, where a number is missing: they are taken as
    /// null.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        serde_json::from_slice(bytes)
            .or_else(|error| serde_json::from_slice(&without_nan(bytes)).map_err(|_| error))
            .map(Json)
            .map_err(|error| format!("has a JSON that is no object: {error}"))
    }

    /// What stands under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The number under `key`; a text that is one counts.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        let number = match self.get(key)? {
            Value::String(text) => text.trim().parse().ok()?,
            value => value.as_f64()?,
        };
        Some(number).filter(|number: &f64| !number.is_nan())
    }

    /// The keys, for a message.
    pub(crate) fn keys(&self) -> String {
        let keys: Vec<&str> = self.0.keys().map(String::as_str).collect();
        keys.join(", ")
    }
}

/// The same text with null for every NaN and Infinity outside of quotes.
fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut quoted = false;
    while let [first, after @ ..] = rest {
        let word = [&b"NaN"[..], b"-Infinity", b"Infinity"]
            .into_iter()
            .find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            text.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        text.push(*first);
        rest = after;
        match (first, rest) {
            (b'"', _) => quoted = !quoted,
            (b'\\', [escaped, after @ ..]) if quoted => {
                text.push(*escaped);
                rest = after;
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_or_texts_of_numbers() {
        let json =
            Json::parse(br#"{"a": 5, "b": 0.25, "c": " 6.5", "d": null, "e": "high", "f": [1], "g": "nan"}"#);
        let json = json.unwrap();
        let numbers: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"]
            .map(|key| json.number(key))
            .into();
        assert_eq!(
            numbers,
            [Some(5.0), Some(0.25), Some(6.5), None, None, None, None, None]
        );
        assert_eq!(json.keys(), "a, b, c, d, e, f, g");
    }

    #[test]
    fn pythons_nan_is_null() {
        let text = br#"{"a": NaN, "b": -Infinity, "c": "NaN \" Infinity \\", "d": [Infinity, 1], "e": 2}"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.number("a"), None);
        assert_eq!(json.get("b"), Some(&Value::Null));
        assert_eq!(json.get("c").unwrap(), "NaN \" Infinity \\");
        assert_eq!(json.number("e"), Some(2.0));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["", "[1]", "{\"a\": }", "{\"a\": \"NaN}", "\\"] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
