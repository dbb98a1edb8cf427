//! `metadata.csv`: a row of names, then a row a picture, separated by commas.

use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::FolderError;
use super::columns::{self, FILE_NAME};
use super::metadata::{Entry, Line, entry};
use crate::config::PictureFolder;
use crate::drops::Cause;

/// The rows of the file at `path`, whose pictures are named as seen from `base`.
///
/// # Errors
/// It cannot be read, or lacks a column.
pub(super) fn read(path: &Path, base: &Path, folder: &PictureFolder) -> Result<Vec<Line>, FolderError> {
    let fail = |error: csv::Error| FolderError::Read {
        path: path.into(),
        source: error.into(),
    };
    let mut reader = ReaderBuilder::new().from_path(path).map_err(fail)?;
    let header = reader.byte_headers().map_err(fail)?;
    let names: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let place = |column: &str| names.iter().position(|name| name == column);
    let found = || names.iter().map(String::as_str);
    let picture = place(FILE_NAME)
        .or_else(|| place(&folder.image_column))
        .ok_or_else(|| columns::no_file_name(path, folder, found()))?;
    let caption = place(&folder.caption_column).ok_or_else(|| columns::no_caption(path, folder, found()))?;

    let mut lines = Vec::new();
    let mut record = ByteRecord::new();
    loop {
        let begins = reader.position().line();
        let (number, entry) = match reader.read_byte_record(&mut record) {
            Ok(true) => {
                let begins = record.position().map_or(begins, csv::Position::line);
                (begins, row(&record, picture, caption, base))
            }
            Ok(false) => return Ok(lines),
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths {
                    pos,
                    expected_len,
                    len,
                } => {
                    let why = format!("has {len} columns, the first row has {expected_len}");
                    let line = pos.as_ref().map_or(begins, csv::Position::line);
                    (line, Err((Cause::BadRow, why)))
                }
                _ => return Err(fail(error)),
            },
        };
        lines.push(Line { number, entry });
    }
}

/// An empty cell is no caption.
fn row(record: &ByteRecord, picture: usize, caption: usize, base: &Path) -> Result<Entry, (Cause, String)> {
    let cell = |column: usize, cause| {
        std::str::from_utf8(record.get(column).unwrap_or_default())
            .map_err(|_| (cause, "is not UTF-8".to_owned()))
    };
    let picture = cell(picture, Cause::BadRow)?;
    let caption = cell(caption, Cause::CaptionNotUtf8)?;
    let captions = if caption.is_empty() {
        Vec::new()
    } else {
        vec![caption.to_owned()]
    };
    entry(base, picture, captions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(bytes: &[u8], folder: &PictureFolder) -> Result<Vec<Line>, FolderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.csv");
        std::fs::write(&path, bytes).unwrap();
        read(&path, Path::new(""), folder)
    }

    #[test]
    fn rows_keep_their_lines_and_bad_ones_their_causes() {
        let bytes = b"\xef\xbb\xbffile_name,n,text\na.png,1,\"one, and\na second line\"\nb.png,2,\n\
            c.png,3\nd.png,4,caf\xe9\n,5,x\ne.png,6,six\n";
        let lines = read_bytes(bytes, &PictureFolder::new(".")).unwrap();
        let short = |line: &Line| match &line.entry {
            Ok(entry) => format!(
                "{} {} {}",
                line.number,
                entry.picture.display(),
                entry.captions.join("|")
            ),
            Err((cause, why)) => format!("{} {cause:?} {why}", line.number),
        };
        assert_eq!(
            lines.iter().map(short).collect::<Vec<_>>(),
            [
                "2 a.png one, and\na second line",
                "4 b.png ",
                "5 BadRow has 2 columns, the first row has 3",
                "6 CaptionNotUtf8 is not UTF-8",
                "7 BadRow names no picture",
                "8 e.png six",
            ]
        );
    }

    #[test]
    fn the_columns_may_have_other_names() {
        let folder = PictureFolder {
            image_column: "path".into(),
            caption_column: "words".into(),
            ..PictureFolder::new(".")
        };
        let lines = read_bytes(b"words,path\nhello,a.png\n", &folder).unwrap();
        assert_eq!(
            lines[0].entry,
            entry(Path::new(""), "a.png", vec!["hello".into()])
        );
        let message = read_bytes(b"file_name;text\n", &PictureFolder::new("."))
            .unwrap_err()
            .to_string();
        assert!(message.contains("its columns are file_name;text"), "{message}");
    }
}
