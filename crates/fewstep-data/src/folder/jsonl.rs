//! `metadata.jsonl`: a JSON object a line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::FolderError;
use super::columns::{self, FILE_NAME};
use super::metadata::{Entry, Line, entry};
use crate::caption;
use crate::config::PictureFolder;
use crate::drops::Cause;

/// The rows of the file at `path`, whose pictures are named as seen from `base`.
///
/// # Errors
/// It cannot be read, or no row of it has the columns.
pub(super) fn read(path: &Path, base: &Path, folder: &PictureFolder) -> Result<Vec<Line>, FolderError> {
    let fail = |source| FolderError::Read {
        path: path.into(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(fail)?);
    let mut lines = Vec::new();
    let mut seen = Seen::default();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(fail)? == 0 {
            break;
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
        if !text.is_empty() {
            let entry = row(text, base, folder, &mut seen);
            lines.push(Line { number, entry });
        }
    }
    seen.check(path, folder)?;
    Ok(lines)
}

fn row(text: &[u8], base: &Path, folder: &PictureFolder, seen: &mut Seen) -> Result<Entry, (Cause, String)> {
    let bad = |why: String| (Cause::BadRow, why);
    let row: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| bad(format!("is no JSON object: {error}")))?;
    let picture = row.get(FILE_NAME).or_else(|| row.get(&folder.image_column));
    let caption = row.get(&folder.caption_column);
    seen.add(&row, picture.is_some(), caption.is_some());
    let picture = match picture {
        Some(Value::String(name)) => name,
        Some(_) => return Err(bad("holds no text where the picture's name should be".into())),
        None => return Err(bad("names no picture".into())),
    };
    let captions = caption::from_json(caption, &folder.caption_column).map_err(bad)?;
    entry(base, picture, captions)
}

/// The columns that any row had.
#[derive(Debug, Default)]
struct Seen {
    columns: BTreeSet<String>,
    picture: bool,
    caption: bool,
}

impl Seen {
    fn add(&mut self, row: &Map<String, Value>, picture: bool, caption: bool) {
        self.picture |= picture;
        self.caption |= caption;
        if !(self.picture && self.caption) {
            self.columns.extend(row.keys().cloned());
        }
    }

    /// A column that not one row has is not missing by accident.
    fn check(&self, path: &Path, folder: &PictureFolder) -> Result<(), FolderError> {
        let found = || self.columns.iter().map(String::as_str);
        if self.columns.is_empty() || (self.picture && self.caption) {
            return Ok(());
        }
        if self.picture {
            return Err(columns::no_caption(path, folder, found()));
        }
        Err(columns::no_file_name(path, folder, found()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Line>, FolderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path, Path::new("sub"), &PictureFolder::new("."))
    }

    #[test]
    fn captions_may_be_lists_and_lines_may_be_broken() {
        let text = "\u{feff}{\"file_name\": \"a.png\", \"text\": \"one\"}\r\n\n\
            {\"file_name\": \"./b/c.png\", \"text\": [\"two\", \"three\"]}\n\
            {\"file_name\": \"d.png\"}\n{\"file_name\"\n{\"text\": \"x\"}\n\
            {\"file_name\": \"../e.png\", \"text\": \"x\"}\n{\"file_name\": \"f.png\", \"text\": 3}";
        let lines = read_text(text).unwrap();
        let short = |line: &Line| match &line.entry {
            Ok(entry) => format!(
                "{} {} {}",
                line.number,
                entry.picture.display(),
                entry.captions.join("|")
            ),
            Err((cause, why)) => format!("{} {cause:?} {}", line.number, why.split(':').next().unwrap()),
        };
        assert_eq!(
            lines.iter().map(short).collect::<Vec<_>>(),
            [
                "1 sub/a.png one",
                "3 sub/b/c.png two|three",
                "4 sub/d.png ",
                "5 BadRow is no JSON object",
                "6 BadRow names no picture",
                "7 BadRow names ../e.png, which is no path inside the folder",
                "8 BadRow holds no text in text",
            ]
        );
    }

    #[test]
    fn a_missing_column_lists_those_there_are() {
        let message = |text: &str| read_text(text).unwrap_err().to_string();
        let text = message("{\"file_name\": \"a.png\", \"words\": \"one\"}\n{\"size\": 3}");
        assert!(
            text.contains("no column text; its columns are file_name, size, words"),
            "{text}"
        );
        let text = message("{\"file\": \"a.png\", \"text\": \"one\"}");
        assert!(
            text.contains("no column file_name or image; its columns are file, text"),
            "{text}"
        );
    }
}
