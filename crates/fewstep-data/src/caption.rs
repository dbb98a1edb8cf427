//! What counts as a caption: the text of a file, the value of a key. It knows nothing of where they lie.

use serde_json::Value;

use crate::drops::Cause;

/// The text of a caption's file, without the mark that Windows puts before UTF-8. `None` where it is not UTF-8: another
/// encoding cannot be told by its bytes.
pub(crate) fn from_file(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Some(rest.to_owned()),
        None => Some(text),
    }
}

/// The captions in a value of JSON: a text, or a list of texts. Nothing and null are no captions.
///
/// # Errors
/// In words, what stands there instead.
pub(crate) fn from_json(value: Option<&Value>, key: &str) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(caption)) => Ok(vec![caption.clone()]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|caption| caption.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("lists something else than texts in {key}")),
        Some(_) => Err(format!("holds no text in {key}")),
    }
}

/// The captions that say something, without white space around them. A picture needs one: who wants to train on empty
/// prompts asks for a share of them.
///
/// # Errors
/// There is none, or none that says something.
pub(crate) fn usable(captions: Vec<String>) -> Result<Vec<String>, (Cause, String)> {
    if captions.is_empty() {
        return Err((Cause::MissingCaption, "has no caption".into()));
    }
    let told: Vec<String> = captions
        .iter()
        .map(|caption| caption.trim().to_owned())
        .filter(|caption| !caption.is_empty())
        .collect();
    match told.is_empty() {
        true => Err((Cause::EmptyCaption, "has an empty caption".into())),
        false => Ok(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_utf8_with_or_without_a_mark() {
        assert_eq!(
            from_file(b"\xef\xbb\xbfa caf\xc3\xa9\n".to_vec()).unwrap(),
            "a café\n"
        );
        assert_eq!(from_file(b"caf\xe9".to_vec()), None);
    }

    #[test]
    fn values_are_texts_or_lists_of_texts() {
        assert_eq!(from_json(Some(&json!("a")), "k").unwrap(), ["a"]);
        assert_eq!(from_json(Some(&json!(["a", "b"])), "k").unwrap(), ["a", "b"]);
        assert!(from_json(Some(&json!(null)), "k").unwrap().is_empty());
        assert!(from_json(None, "k").unwrap().is_empty());
        assert_eq!(from_json(Some(&json!(3)), "k").unwrap_err(), "holds no text in k");
        assert!(from_json(Some(&json!(["a", 3])), "k").is_err());
    }

    #[test]
    fn white_space_is_no_caption() {
        let usable = |captions: &[&str]| usable(captions.iter().map(|&text| text.to_owned()).collect());
        assert_eq!(usable(&[" a\n", "", "\t", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(usable(&["", " \n"]).unwrap_err().0, Cause::EmptyCaption);
        assert_eq!(usable(&[]).unwrap_err().0, Cause::MissingCaption);
    }
}
