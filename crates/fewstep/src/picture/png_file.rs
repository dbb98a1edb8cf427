//! PNG files with text inside, written whole or not at all.

use std::io::Write;
use std::path::Path;

use fewstep_models::weights::write_atomic;

use fewstep_models::pipeline::Rgb8;

/// A text inside of a PNG file: its keyword (Latin letters) and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// What it is called.
    pub(crate) keyword: &'static str,
    /// Any text.
    pub(crate) text: String,
}

/// Writes the picture with its notes, whole or not at all.
///
/// # Errors
/// A folder that is missing or cannot be written.
pub(crate) fn write_png(path: &Path, picture: &Rgb8, notes: &[Note]) -> anyhow::Result<()> {
    write_atomic(path, |file| encode(file, picture, notes))?;
    Ok(())
}

fn encode(out: impl Write, picture: &Rgb8, notes: &[Note]) -> anyhow::Result<()> {
    let (width, height) = (u32::try_from(picture.width)?, u32::try_from(picture.height)?);
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for note in notes {
        // tEXt, which every reader knows, holds Latin-1 only.
        if note.text.is_ascii() {
            encoder.add_text_chunk(note.keyword.to_owned(), note.text.clone())?;
        } else {
            encoder.add_itxt_chunk(note.keyword.to_owned(), note.text.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.bytes)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::BufReader;

    #[test]
    fn notes_and_pixels_come_back() {
        let folder = std::env::temp_dir().join(format!("fewstep-png-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.png");
        let picture = Rgb8 {
            width: 2,
            height: 1,
            bytes: vec![1, 2, 3, 4, 5, 6],
        };
        let notes =
            [("parameters", "a red circle"), ("fewstep", "{\"prompt\":\"红\"}")].map(|(keyword, text)| {
                Note {
                    keyword,
                    text: text.to_owned(),
                }
            });
        write_png(&path, &picture, &notes).unwrap();

        let mut reader = png::Decoder::new(BufReader::new(File::open(&path).unwrap()))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; 6];
        reader.next_frame(&mut bytes).unwrap();
        assert_eq!(bytes, picture.bytes);
        let info = reader.info();
        assert_eq!(info.uncompressed_latin1_text[0].text, "a red circle");
        assert_eq!(info.utf8_text[0].get_text().unwrap(), notes[1].text);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

        let error = write_png(&folder.join("none/a.png"), &picture, &[]).unwrap_err();
        assert!(error.to_string().contains("none/a.png"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
