//! The last pass: a square of an 8-bit picture, perhaps mirrored, as numbers in [-1, 1], one plane a channel.

use std::sync::LazyLock;

use super::Rgb;

/// What each 8-bit value becomes: 0 is -1, 255 is 1, by torchvision's steps (to [0, 1], less one half, by one half).
static LEVELS: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|value| (value as f32 / 255.0 - 0.5) / 0.5));

/// Which way round a picture is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facing {
    /// As it is stored.
    Stored,
    /// Left and right exchanged.
    Mirrored,
}

/// Where a square lies in a picture, and which way round it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Square {
    /// Pixels a side.
    pub side: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns left of it, in the picture as it is stored.
    pub left: u32,
    /// Which way round it is shown.
    pub facing: Facing,
}

impl Square {
    /// (top, left) as seen: a mirrored picture is cropped at what was its right edge.
    pub fn top_left_seen(&self, picture_width: u32) -> (u32, u32) {
        match self.facing {
            Facing::Stored => (self.top, self.left),
            Facing::Mirrored => (self.top, picture_width - self.side - self.left),
        }
    }
}

/// Half of the `spare` rows or columns; of two middles the even one, as Python rounds.
pub fn center(spare: u32) -> u32 {
    let half = spare / 2;
    half + spare % 2 * (half % 2)
}

/// Adds `square` of `picture` to `numbers`, as [`write_square`] writes it.
pub fn push_square(picture: &Rgb, square: Square, numbers: &mut Vec<f32>) {
    let before = numbers.len();
    numbers.resize(before + 3 * (square.side as usize).pow(2), 0.0);
    write_square(picture, square, &mut numbers[before..]);
}

/// Writes `square` of `picture` into `out`: `[3, side, side]`, row-major, in [-1, 1].
///
/// The square must lie within the picture and `out` have its size; both hold wherever the place was drawn from the
/// picture's own size.
pub fn write_square(picture: &Rgb, square: Square, out: &mut [f32]) {
    let side = square.side as usize;
    let stride = 3 * picture.width as usize;
    let rows = picture
        .pixels
        .chunks_exact(stride)
        .skip(square.top as usize)
        .take(side);
    let (red, rest) = out.split_at_mut(side * side);
    let (green, blue) = rest.split_at_mut(side * side);
    let planes = red
        .chunks_exact_mut(side)
        .zip(green.chunks_exact_mut(side))
        .zip(blue.chunks_exact_mut(side));
    for (row, ((red, green), blue)) in rows.zip(planes) {
        let pixels = row[3 * square.left as usize..][..3 * side].chunks_exact(3);
        let channels = red.iter_mut().zip(green).zip(blue);
        match square.facing {
            Facing::Stored => pixels.zip(channels).for_each(|(pixel, out)| put(pixel, out)),
            Facing::Mirrored => pixels
                .rev()
                .zip(channels)
                .for_each(|(pixel, out)| put(pixel, out)),
        }
    }
}

fn put(pixel: &[u8], ((red, green), blue): ((&mut f32, &mut f32), &mut f32)) {
    *red = LEVELS[usize::from(pixel[0])];
    *green = LEVELS[usize::from(pixel[1])];
    *blue = LEVELS[usize::from(pixel[2])];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 x 3 pixels, red counts columns and green rows.
    fn picture() -> Rgb {
        let pixels = (0..3u8).flat_map(|y| (0..4u8).flat_map(move |x| [x, y, 255]));
        Rgb {
            width: 4,
            height: 3,
            pixels: pixels.collect(),
        }
    }

    fn square(facing: Facing) -> Square {
        Square {
            side: 2,
            top: 1,
            left: 0,
            facing,
        }
    }

    fn level(value: u8) -> f32 {
        (f32::from(value) / 255.0 - 0.5) / 0.5
    }

    #[test]
    fn a_square_becomes_planes() {
        let mut out = [9.0; 12];
        write_square(&picture(), square(Facing::Stored), &mut out);
        let (zero, one, two) = (level(0), level(1), level(2));
        assert_eq!(out[..4], [zero, one, zero, one]);
        assert_eq!(out[4..8], [one, one, two, two]);
        assert_eq!(out[8..], [1.0; 4]);
        assert_eq!(zero, -1.0);
    }

    #[test]
    fn a_mirrored_square_is_the_square_of_the_mirrored_picture() {
        let mut out = [9.0; 12];
        write_square(&picture(), square(Facing::Mirrored), &mut out);
        assert_eq!(out[..4], [level(1), level(0), level(1), level(0)]);
        assert_eq!(square(Facing::Stored).top_left_seen(4), (1, 0));
        // In the mirrored picture the columns 1, 0 are the third and fourth.
        assert_eq!(square(Facing::Mirrored).top_left_seen(4), (1, 2));
    }

    #[test]
    fn the_middle_is_rounded_to_the_even_pixel() {
        let middles: Vec<u32> = (0..8).map(center).collect();
        assert_eq!(middles, [0, 0, 1, 2, 2, 2, 3, 4]);
    }
}
