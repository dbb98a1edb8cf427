//! Several pictures side by side.

use fewstep_models::pipeline::Rgb8;

/// The gap between pictures, in pixels.
const GAP: usize = 2;
/// What lies between them.
const WHITE: u8 = 255;

/// The pictures in rows of `columns`, from the left, then down. All have the first one's size; a last row
/// that is not full ends in white.
pub fn grid(pictures: &[Rgb8], columns: usize) -> Rgb8 {
    let Some(first) = pictures.first() else {
        return Rgb8 {
            width: 0,
            height: 0,
            bytes: Vec::new(),
        };
    };
    let columns = columns.clamp(1, pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (cell_width, cell_height) = (first.width + GAP, first.height + GAP);
    let (width, height) = (columns * cell_width - GAP, rows * cell_height - GAP);
    let mut bytes = vec![WHITE; width * height * 3];
    for (i, picture) in pictures.iter().enumerate() {
        let (top, left) = (i / columns * cell_height, i % columns * cell_width);
        for (y, row) in picture.bytes.chunks_exact(picture.width * 3).enumerate() {
            let start = ((top + y) * width + left) * 3;
            bytes[start..start + row.len()].copy_from_slice(row);
        }
    }
    Rgb8 { width, height, bytes }
}

/// The pictures of a grid that [`grid`] made of `count` pictures in rows of `columns`; none where its sizes are no such
/// grid's.
pub fn cut(grid: &Rgb8, count: usize, columns: usize) -> Option<Vec<Rgb8>> {
    let columns = columns.clamp(1, count.max(1));
    let rows = count.div_ceil(columns);
    let side = |whole: usize, parts: usize| {
        let bare = (whole + GAP).checked_div(parts)?.checked_sub(GAP)?;
        (bare > 0 && parts * (bare + GAP) == whole + GAP).then_some(bare)
    };
    let (width, height) = (side(grid.width, columns)?, side(grid.height, rows)?);
    let pictures = (0..count).map(|i| {
        let (top, left) = (i / columns * (height + GAP), i % columns * (width + GAP));
        let row = |y: usize| ((top + y) * grid.width + left) * 3;
        Rgb8 {
            width,
            height,
            bytes: (0..height)
                .flat_map(|y| &grid.bytes[row(y)..row(y) + width * 3])
                .copied()
                .collect(),
        }
    });
    Some(pictures.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(level: u8) -> Rgb8 {
        Rgb8 {
            width: 2,
            height: 1,
            bytes: vec![level; 6],
        }
    }

    #[test]
    fn pictures_fill_rows_from_the_left() {
        let all = grid(&[plain(1), plain(2), plain(3)], 2);
        assert_eq!((all.width, all.height), (2 * 2 + GAP, 2 + GAP));
        let red = |x: usize, y: usize| all.bytes[(y * all.width + x) * 3];
        assert_eq!(
            [red(0, 0), red(1, 0), red(2, 0), red(2 + GAP, 0)],
            [1, 1, WHITE, 2]
        );
        assert_eq!([red(0, 1 + GAP), red(2 + GAP, 1 + GAP)], [3, WHITE]);
    }

    #[test]
    fn a_grid_is_cut_into_what_it_was_made_of() {
        let pictures = [plain(1), plain(2), plain(3)];
        for columns in 1..=3 {
            assert_eq!(cut(&grid(&pictures, columns), 3, columns).unwrap(), pictures);
        }
        assert_eq!(cut(&grid(&pictures, 3), 5, 5), None);
    }

    #[test]
    fn one_picture_stays_as_it_is() {
        assert_eq!(grid(&[plain(9)], 4), plain(9));
    }
}
