//! The grid: a column for each caption, a labelled row for each way to paint it.

use image::{Rgb, RgbImage};

use super::font;
use super::rows::Row;
use crate::world::{Picture, SIDE};

/// Pictures are shown this many times larger.
const SCALE: usize = 2;
/// Pixels between pictures, and around them.
const GAP: usize = 4;
/// Letters are shown this many times larger.
const LETTER: usize = 2;
const CELL: usize = SIDE * SCALE + GAP;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([30, 30, 30]);

/// Draws the grid of these rows, each with a picture for every column, under a title.
pub(super) fn grid(title: &str, rows: &[(Row, Vec<Picture>)]) -> RgbImage {
    let labels: Vec<String> = rows.iter().map(|(row, _)| row.label()).collect();
    let longest = labels.iter().map(|label| text_width(label)).max().unwrap_or(0);
    let margin = longest.max(text_width(title)) + 2 * GAP;
    let top = font::HEIGHT * LETTER + 2 * GAP;
    let columns = rows.iter().map(|(_, pictures)| pictures.len()).max().unwrap_or(0);
    let width = margin + columns * CELL;
    let height = top + rows.len() * CELL;
    let mut image = RgbImage::from_pixel(width as u32, height as u32, PAPER);
    write(&mut image, title, [GAP, GAP]);
    for (i, ((_, pictures), label)) in rows.iter().zip(&labels).enumerate() {
        let y = top + i * CELL;
        let middle = y + (SIDE * SCALE - font::HEIGHT * LETTER) / 2;
        write(&mut image, label, [GAP, middle]);
        for (j, picture) in pictures.iter().enumerate() {
            let larger = image::imageops::resize(
                &picture.to_image(),
                (SIDE * SCALE) as u32,
                (SIDE * SCALE) as u32,
                image::imageops::FilterType::Nearest,
            );
            image::imageops::replace(&mut image, &larger, (margin + j * CELL) as i64, y as i64);
        }
    }
    image
}

fn text_width(text: &str) -> usize {
    text.chars().count() * font::ADVANCE * LETTER
}

/// Writes a text with its upper left corner at `[x, y]`; the image is large enough for every text.
fn write(image: &mut RgbImage, text: &str, [left, top]: [usize; 2]) {
    for (x, y) in font::pixels(text) {
        for (dx, dy) in (0..LETTER).flat_map(|dx| (0..LETTER).map(move |dy| (dx, dy))) {
            let place = [left + x * LETTER + dx, top + y * LETTER + dy].map(|p| p as u32);
            image.put_pixel(place[0], place[1], INK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::student::Student;

    fn plain(level: f32) -> Picture {
        Picture::from_fn(|_, _| [level; 3])
    }

    #[test]
    fn pictures_lie_in_their_row_and_column() {
        let rows = [
            (Row::Real, vec![plain(0.0), plain(0.2)]),
            (Row::Student(Student::Lora, 4), vec![plain(0.4), plain(0.6)]),
        ];
        let image = grid("guidance 8", &rows);
        let margin = image.width() as usize - 2 * CELL;
        let top = image.height() as usize - 2 * CELL;
        for (row, column, level) in [(0, 0, 0u8), (0, 1, 51), (1, 0, 102), (1, 1, 153)] {
            let (x, y) = (margin + column * CELL, top + row * CELL);
            for corner in [0, SIDE * SCALE - 1] {
                let pixel = image.get_pixel((x + corner) as u32, (y + corner) as u32);
                assert_eq!(pixel.0, [level; 3], "row {row}, column {column}");
            }
            let beside = image.get_pixel((x + SIDE * SCALE) as u32, y as u32);
            assert_eq!(*beside, PAPER);
        }
        let labelled = |from: usize, to: usize| {
            let places = (0..margin).flat_map(|x| (from..to).map(move |y| (x as u32, y as u32)));
            places.filter(|&(x, y)| *image.get_pixel(x, y) == INK).count()
        };
        assert!(labelled(0, top) > 0);
        assert!(labelled(top, top + CELL) > 0);
        assert!(labelled(top + CELL, top + 2 * CELL) > labelled(top, top + CELL));
    }
}
