//! PNG files with text inside, written whole or not at all.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use fewstep_models::pipeline::Rgb8;
use fewstep_models::weights::{ModelError, write_atomic};

/// A text inside of a PNG file: its keyword (Latin letters) and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is called.
    pub keyword: &'static str,
    /// Any text.
    pub text: String,
}

/// Why a picture was not written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] ModelError),
    /// The bytes are no picture of this size, or the file could not be filled.
    #[error("the picture {} cannot be written: {source}", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: png::EncodingError,
    },
}

/// Writes the picture with its notes, whole or not at all.
///
/// # Errors
/// A folder that is missing or cannot be written.
pub fn write_png(path: &Path, picture: &Rgb8, notes: &[Note]) -> Result<(), PictureError> {
    write_atomic(path, |file| {
        encode_png(file, picture, notes).map_err(|source| PictureError::Png {
            path: path.to_owned(),
            source,
        })
    })?;
    Ok(())
}

/// Writes the picture as PNG to `out`.
///
/// # Errors
/// What `out` refuses.
pub fn encode_png(out: impl Write, picture: &Rgb8, notes: &[Note]) -> Result<(), png::EncodingError> {
    // A side that is too long for 32 bits is refused by the encoder, as zero is.
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(0);
    let mut encoder = png::Encoder::new(out, side(picture.width), side(picture.height));
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
    writer.finish()
}

/// The picture of a file that [`write_png`] wrote, and its note under `keyword`. `None` for whatever else lies there.
pub fn read_png(path: &Path, keyword: &str) -> Option<(Rgb8, String)> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).ok()?))
        .read_info()
        .ok()?;
    let info = reader.info();
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return None;
    }
    let (width, height) = (info.width as usize, info.height as usize);
    let mut bytes = vec![0; reader.output_buffer_size()?];
    reader.next_frame(&mut bytes).ok()?;
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter();
    let plain = plain.map(|chunk| (&chunk.keyword, Some(chunk.text.clone())));
    let wide = info.utf8_text.iter();
    let wide = wide.map(|chunk| (&chunk.keyword, chunk.get_text().ok()));
    let text = plain.chain(wide).find(|(name, _)| *name == keyword)?.1?;
    Some((Rgb8 { width, height, bytes }, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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

        for note in &notes {
            let (read, text) = read_png(&path, note.keyword).unwrap();
            assert_eq!((&read, &text), (&picture, &note.text));
        }
        assert_eq!(read_png(&path, "nothing"), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

        let error = write_png(&folder.join("none/a.png"), &picture, &[]).unwrap_err();
        assert!(error.to_string().contains("none/a.png"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
