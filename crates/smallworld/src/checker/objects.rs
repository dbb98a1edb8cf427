//! Finding the objects: the strongly coloured pixels by hue, their connected components, and what the two
//! largest are like.

use anyhow::{Result, ensure};

use super::components::components;
use crate::world::{Colour, OBJECT_RGB, ObjectSize, SIDE, Shape};

/// Objects are more saturated than this, backgrounds less (tan, the strongest, has 0.35).
const LEAST_SATURATION: f32 = 0.55;
/// Outlines are darker than this, objects brighter.
const LEAST_BRIGHTNESS: f32 = 0.3;
/// Fewer pixels are a blemish, not an object.
const LEAST_AREA: usize = 20;
/// A shape is compared on a grid of this many cells a side, laid over its box.
const GRID: usize = 12;

/// Whether a pixel belongs to an object, and by hue to one of which colour.
pub(super) fn colour_of([r, g, b]: [f32; 3]) -> Option<Colour> {
    let brightest = r.max(g).max(b);
    let darkest = r.min(g).min(b);
    if brightest < LEAST_BRIGHTNESS || brightest - darkest < LEAST_SATURATION * brightest {
        return None;
    }
    let hue = hue([r, g, b]);
    let from = |colour: &Colour| {
        let apart = (hue - self::hue(OBJECT_RGB[colour.index()])).abs();
        apart.min(6.0 - apart)
    };
    Colour::ALL
        .iter()
        .copied()
        .min_by(|a, b| from(a).total_cmp(&from(b)))
}

/// The hue in [0, 6): red 0, green 2, blue 4.
fn hue([r, g, b]: [f32; 3]) -> f32 {
    let brightest = r.max(g).max(b);
    let range = brightest - r.min(g).min(b);
    if range == 0.0 {
        0.0
    } else if brightest == r {
        ((g - b) / range).rem_euclid(6.0)
    } else if brightest == g {
        (b - r) / range + 2.0
    } else {
        (r - g) / range + 4.0
    }
}

/// A connected patch of one colour.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) colour: Colour,
    /// First and last column, first and last row.
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
    /// How full each cell of the grid over its box is, in [0, 1].
    mask: [f32; GRID * GRID],
}

/// The two largest patches in the picture, or fewer.
pub(super) fn two_largest(colours: &[[f32; 3]]) -> Vec<Blob> {
    let labels: Vec<Option<Colour>> = colours.iter().map(|&c| colour_of(c)).collect();
    let mut patches = components(&labels);
    patches.retain(|pixels| pixels.len() >= LEAST_AREA);
    patches.sort_by_key(|pixels| std::cmp::Reverse(pixels.len()));
    patches
        .iter()
        .take(2)
        .filter_map(|pixels| Some(Blob::new(labels[*pixels.first()?]?, pixels)))
        .collect()
}

impl Blob {
    fn new(colour: Colour, pixels: &[usize]) -> Self {
        let (mut left, mut right, mut top, mut bottom) = (SIDE, 0, SIDE, 0);
        for &pixel in pixels {
            let (x, y) = (pixel % SIDE, pixel / SIDE);
            (left, right) = (left.min(x), right.max(x));
            (top, bottom) = (top.min(y), bottom.max(y));
        }
        let (width, height) = (right + 1 - left, bottom + 1 - top);
        let mut mask = [0.0; GRID * GRID];
        for &pixel in pixels {
            let columns = shares(pixel % SIDE - left, width);
            for (row, down) in shares(pixel / SIDE - top, height) {
                for (column, across) in columns.clone() {
                    mask[row * GRID + column] += down * across;
                }
            }
        }
        Blob {
            colour,
            left,
            right,
            top,
            bottom,
            mask,
        }
    }

    /// The middle of its box.
    pub(super) fn centre(&self) -> [f32; 2] {
        [
            (self.left + self.right + 1) as f32 / 2.0,
            (self.top + self.bottom + 1) as f32 / 2.0,
        ]
    }

    /// The longer side of its box.
    fn extent(&self) -> f32 {
        (self.right - self.left).max(self.bottom - self.top) as f32 + 1.0
    }
}

/// Which of the grid's cells the pixel `i` of a box `length` pixels long covers, and how much of each.
fn shares(i: usize, length: usize) -> impl Iterator<Item = (usize, f32)> + Clone {
    let scale = GRID as f32 / length as f32;
    let (from, to) = (i as f32 * scale, (i + 1) as f32 * scale);
    (from as usize..GRID.min(to.ceil() as usize)).filter_map(move |cell| {
        let share = to.min(cell as f32 + 1.0) - from.max(cell as f32);
        (share > 0.0).then_some((cell, share))
    })
}

/// The mean mask of each shape, and where small ends and large begins.
#[derive(Debug, Clone)]
pub(super) struct ShapeModel {
    masks: Vec<[f32; GRID * GRID]>,
    thresholds: Vec<f32>,
}

impl ShapeModel {
    /// Learns from blobs of known shape and size.
    pub(super) fn calibrate(found: &[(Shape, ObjectSize, Blob)]) -> Result<Self> {
        let mut model = ShapeModel {
            masks: Vec::new(),
            thresholds: Vec::new(),
        };
        for &shape in Shape::ALL {
            let of_shape = || found.iter().filter(move |(s, ..)| *s == shape);
            let mut mask = [0.0; GRID * GRID];
            let count = of_shape().count();
            for (_, _, blob) in of_shape() {
                for (mean, cell) in mask.iter_mut().zip(blob.mask) {
                    *mean += cell / count as f32;
                }
            }
            model.masks.push(mask);
            let mut means = [0.0; 2];
            for &size in ObjectSize::ALL {
                let extents: Vec<f32> = of_shape()
                    .filter(|(_, s, _)| *s == size)
                    .map(|(.., blob)| blob.extent())
                    .collect();
                ensure!(
                    !extents.is_empty(),
                    "no {} {} was found in the pictures to calibrate on; give more of them",
                    size.words(),
                    shape.words()
                );
                means[size.index()] = extents.iter().sum::<f32>() / extents.len() as f32;
            }
            model.thresholds.push((means[0] + means[1]) / 2.0);
        }
        Ok(model)
    }

    /// The shape whose mean mask is nearest.
    pub(super) fn shape(&self, blob: &Blob) -> Shape {
        let from = |shape: &Shape| -> f32 {
            let mask = &self.masks[shape.index()];
            mask.iter().zip(blob.mask).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let nearest = Shape::ALL
            .iter()
            .copied()
            .min_by(|a, b| from(a).total_cmp(&from(b)));
        nearest.unwrap_or(Shape::Circle)
    }

    /// Its size, knowing its shape.
    pub(super) fn size(&self, blob: &Blob, shape: Shape) -> ObjectSize {
        if blob.extent() < self.thresholds[shape.index()] {
            ObjectSize::Small
        } else {
            ObjectSize::Large
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_itself_in_light_and_shade_and_no_background_is_one() {
        for &colour in Colour::ALL {
            for light in [0.84, 1.0, 1.16] {
                let rgb = OBJECT_RGB[colour.index()].map(|c| c * light);
                assert_eq!(colour_of(rgb), Some(colour));
            }
        }
        for rgb in crate::world::BACKGROUND_RGB {
            assert_eq!(colour_of(rgb), None);
            assert_eq!(colour_of(rgb.map(|c| c * 0.7)), None);
        }
    }

    #[test]
    fn a_full_box_fills_its_mask() {
        let pixels: Vec<usize> = (5..12).flat_map(|y| (3..20).map(move |x| y * SIDE + x)).collect();
        let blob = Blob::new(Colour::Red, &pixels);
        assert_eq!((blob.centre(), blob.extent()), ([11.5, 8.5], 17.0));
        assert!(
            blob.mask.iter().all(|m| (m - 1.0).abs() < 1e-4),
            "{:?}",
            blob.mask
        );
    }
}
