//! Which square of a picture is shown, and which way round: the one of a sample, and all that there may be. It decodes
//! nothing.

use fewstep_draw::{Purpose, Stream};

use crate::cache::Key;
use crate::config::{Crop, DataConfig, Flip};
use crate::picture::{self, Facing, Square};

impl DataConfig {
    /// The square that sample `number` shows of a picture with this digest, which is resized to `size`.
    pub(crate) fn square(&self, digest: Key, size: (u32, u32), number: u64) -> Square {
        let draws = |purpose| Stream::new(self.seed, purpose, number);
        let (top, left) = match self.crop {
            Crop::Center => self.middle(size),
            Crop::Random => self.anywhere(size, draws(Purpose::Crop)),
            Crop::OneOf(count) => self.one_of(digest, size, draws(Purpose::Crop).below(count.into())),
        };
        let facing = match self.flip {
            Flip::Never => Facing::Stored,
            Flip::Random => match draws(Purpose::Flip).below(2) {
                0 => Facing::Stored,
                _ => Facing::Mirrored,
            },
        };
        self.at((top, left), facing)
    }

    /// Every square that some sample may show of it, each once; none where that is any.
    pub(crate) fn squares(&self, digest: Key, size: (u32, u32)) -> Vec<Square> {
        let mut places = match self.crop {
            Crop::Random => Vec::new(),
            Crop::Center => vec![self.middle(size)],
            Crop::OneOf(count) => (0..count.into())
                .map(|place| self.one_of(digest, size, place))
                .collect(),
        };
        places.sort_unstable();
        places.dedup();
        let facings = match self.flip {
            Flip::Never => &[Facing::Stored][..],
            Flip::Random => &[Facing::Stored, Facing::Mirrored],
        };
        let both = |place| facings.iter().map(move |&facing| (place, facing));
        places
            .into_iter()
            .flat_map(both)
            .map(|(place, facing)| self.at(place, facing))
            .collect()
    }

    /// Whether the cache has all of these.
    pub(crate) fn knows(&self, digest: Key, size: (u32, u32)) -> bool {
        self.latents.as_ref().is_some_and(|latents| {
            let squares = self.squares(digest, size);
            let known = |square: &Square| latents.holds(latents.key(self, digest, *square));
            !squares.is_empty() && squares.iter().all(known)
        })
    }

    fn at(&self, (top, left): (u32, u32), facing: Facing) -> Square {
        Square {
            side: self.resolution,
            top,
            left,
            facing,
        }
    }

    /// Rows and columns beside a square.
    fn spare(&self, (height, width): (u32, u32)) -> (u32, u32) {
        (
            height.saturating_sub(self.resolution),
            width.saturating_sub(self.resolution),
        )
    }

    fn middle(&self, size: (u32, u32)) -> (u32, u32) {
        let (rows, columns) = self.spare(size);
        (picture::center(rows), picture::center(columns))
    }

    fn anywhere(&self, size: (u32, u32), mut draws: Stream) -> (u32, u32) {
        let (rows, columns) = self.spare(size);
        let mut below = |spare: u32| draws.below(u64::from(spare) + 1) as u32;
        (below(rows), below(columns))
    }

    /// The place with this number, of the picture itself.
    fn one_of(&self, digest: Key, size: (u32, u32), place: u64) -> (u32, u32) {
        self.anywhere(size, Stream::new(digest.number(), Purpose::FewCrops, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(crop: Crop, flip: Flip) -> DataConfig {
        DataConfig {
            resolution: 8,
            crop,
            flip,
            ..DataConfig::default()
        }
    }

    #[test]
    fn a_sample_shows_one_of_the_squares_that_there_are() {
        let (one, other) = (Key::of(b"one"), Key::of(b"other"));
        for crop in [Crop::Center, Crop::OneOf(1), Crop::OneOf(3)] {
            let config = config(crop, Flip::Random);
            let squares = config.squares(one, (8, 2000));
            let mut seen: Vec<Square> = (0..100)
                .map(|number| config.square(one, (8, 2000), number))
                .collect();
            seen.sort_by_key(|square| (square.left, square.facing == Facing::Mirrored));
            seen.dedup();
            assert_eq!(seen, squares);
            let different = config.squares(other, (8, 2000)) != squares;
            assert_eq!(different, crop != Crop::Center);
        }
        assert_eq!(config(Crop::Random, Flip::Never).squares(one, (8, 20)), []);
    }

    #[test]
    fn more_crops_are_those_before_and_some_more() {
        let squares = |count, seed| {
            let config = DataConfig {
                seed,
                ..config(Crop::OneOf(count), Flip::Never)
            };
            config.squares(Key::of(b"one"), (8, 2000))
        };
        let (few, many) = (squares(2, 0), squares(6, 1));
        assert_eq!((few.len(), many.len()), (2, 6));
        assert!(few.iter().all(|square| many.contains(square)));
        // Where there is one place, there is one crop.
        let only = config(Crop::OneOf(5), Flip::Never).squares(Key::of(b"one"), (8, 8));
        assert_eq!(only.len(), 1);
    }
}
