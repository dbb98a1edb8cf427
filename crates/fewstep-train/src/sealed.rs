//! JSON files that carry a sum of themselves, so that a damaged one is not taken for a good one.
//!
//! The first member is `xxh3`, the sum of the file's text with zeros in its place. It knows nothing of what the
//! files say.

use std::path::Path;

use fewstep_models::weights::Written;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::output::write_text;

const SUM: &str = "xxh3";
const NO_SUM: &str = "0000000000000000";

/// Why a sealed file cannot be used, as the rest of a sentence that begins with its path.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It is missing, or not what was written.
    Damaged(String),
    /// This user may not read it: that is no damage.
    Forbidden(std::io::Error),
    /// It was written in another layout, by another version of this program.
    OtherVersion,
}

/// Writes `value`, a struct, as a sealed file, whole or not at all.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn write(path: &Path, version: u32, value: &impl Serialize) -> Result<(), TrainError> {
    let bad = |problem: String| TrainError::io("write", path, std::io::Error::other(problem));
    let mut members = Map::new();
    members.insert(SUM.to_owned(), NO_SUM.into());
    members.insert("version".to_owned(), version.into());
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => members.extend(map),
        Ok(_) => return Err(bad("it is not an object".to_owned())),
        Err(error) => return Err(bad(error.to_string())),
    }
    let text = serde_json::to_string_pretty(&members).map_err(|error| bad(error.to_string()))? + "\n";
    let sum = hex(Written::of_bytes(text.as_bytes()).xxh3);
    write_text(path, &text.replacen(NO_SUM, &sum, 1))
}

/// Reads a sealed file of this version.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, version: u32) -> Result<T, Unusable> {
    let damaged = Unusable::Damaged;
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged("is missing".to_owned()),
        std::io::ErrorKind::PermissionDenied => Unusable::Forbidden(error),
        _ => damaged(format!("cannot be read: {error}")),
    })?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| damaged(format!("is not whole: {error}")))?;
    if let Some(stated) = value.get(SUM).and_then(Value::as_str) {
        let sum = Written::of_bytes(text.replacen(stated, NO_SUM, 1).as_bytes()).xxh3;
        if stated != hex(sum) {
            return Err(damaged(
                "does not hold what was written (its checksum differs)".to_owned(),
            ));
        }
    }
    let found = value.get("version").and_then(Value::as_u64);
    if found.is_some_and(|found| found != u64::from(version)) {
        return Err(Unusable::OtherVersion);
    }
    if value.get(SUM).is_none_or(|stated| !stated.is_string()) {
        return Err(damaged("has lost its checksum".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| damaged(format!("does not say what it should: {error}")))
}

/// A sum as it stands in files.
pub(crate) fn hex(sum: u64) -> String {
    format!("{sum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let value = json!({"step": 300, "name": "a run", "zeros": NO_SUM});
        write(&path, 2, &value).unwrap();
        let read_back: Value = read(&path, 2).unwrap();
        assert_eq!(
            (&read_back["step"], &read_back["version"]),
            (&json!(300), &json!(2))
        );
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 0x04;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read::<Value>(&path, 2).is_err(), "byte {place}");
        }
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(matches!(read::<Value>(&path, 2), Err(Unusable::Damaged(_))));
        std::fs::write(&path, good).unwrap();
        assert!(matches!(read::<Value>(&path, 3), Err(Unusable::OtherVersion)));
        std::fs::write(&path, r#"{"version": 1}"#).unwrap();
        assert!(matches!(read::<Value>(&path, 2), Err(Unusable::OtherVersion)));
    }
}
