//! A few letters and all digits, five by seven pixels, for the labels of a grid.

/// Pixels from one letter to the next.
pub(super) const ADVANCE: usize = 6;
/// Pixels from the top of a letter to its foot.
pub(super) const HEIGHT: usize = 7;

/// The places (x, y) of the pixels of a text in capitals; a letter that the font lacks is left blank.
pub(super) fn pixels(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    text.chars().enumerate().flat_map(|(i, letter)| {
        let rows = glyph(letter.to_ascii_uppercase()).unwrap_or_default();
        let places = (0..HEIGHT).flat_map(|y| (0..5).map(move |x| (x, y)));
        places
            .filter(move |&(x, y)| rows[y] >> (4 - x) & 1 == 1)
            .map(move |(x, y)| (i * ADVANCE + x, y))
    })
}

/// The rows of a letter, top first, the leftmost pixel in the highest of five bits.
fn glyph(letter: char) -> Option<[u8; HEIGHT]> {
    Some(match letter {
        'A' => [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        'C' => [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110],
        'D' => [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110],
        'E' => [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111],
        'G' => [0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01110],
        'H' => [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        'I' => [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        'L' => [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111],
        'N' => [0b10001, 0b11001, 0b10101, 0b10101, 0b10011, 0b10001, 0b10001],
        'O' => [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        'R' => [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001],
        'S' => [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110],
        'T' => [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100],
        'U' => [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        '0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        '1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        '2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        '3' => [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110],
        '4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        '5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        '6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        '7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        '8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        '9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rows::Row;
    use crate::demo::student::Student;

    #[test]
    fn every_label_of_a_grid_can_be_written() {
        let title = "guidance 0123456789".to_owned();
        let rows = Row::grid(&[Student::Whole, Student::Lora]);
        for label in rows.into_iter().map(Row::label).chain([title]) {
            for letter in label.chars().filter(|&c| c != ' ') {
                assert!(
                    glyph(letter.to_ascii_uppercase()).is_some(),
                    "{letter} of {label}"
                );
            }
        }
    }

    #[test]
    fn pixels_lie_where_the_letters_are() {
        let mut places: Vec<_> = pixels(" L").collect();
        places.sort_unstable();
        let left = ADVANCE;
        assert_eq!(places.len(), 7 + 4);
        assert_eq!(places[0], (left, 0));
        assert_eq!(places.last(), Some(&(left + 4, 6)));
    }
}
