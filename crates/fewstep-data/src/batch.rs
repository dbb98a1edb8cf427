//! What a loader delivers. Plain memory; whoever owns a device moves it there.

use std::sync::Arc;

use crate::cache::{Blob, Key};

/// Pictures, captions and what goes with them. Every list has one item a sample, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[N, 3, resolution, resolution]`, row-major, RGB in [-1, 1]: the pictures of the N samples whose latents are
    /// not known, in their order. Without a cache these are all.
    pub pixels: Vec<f32>,
    /// What is known of each sample's latents.
    pub latents: Vec<LatentsOf>,
    /// Height and width of the pictures.
    pub resolution: u32,
    /// As they stand in the data; of several for one picture, the one drawn.
    pub captions: Vec<String>,
    /// Consecutive numbers, counted from 0 at the start of the run: the third argument of every draw.
    pub sample_numbers: Vec<u64>,
    /// What SDXL is told of size and crop.
    pub sizes: Vec<PictureSizes>,
    /// Shard and key of each sample, for messages.
    pub keys: Vec<String>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Whether there is no sample; a loader delivers no such batch.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }
}

/// What is known of a sample's latents.
#[derive(Debug, Clone, PartialEq)]
pub enum LatentsOf {
    /// Nothing: its picture is in [`Batch::pixels`]. Once they are made, the cache is to have them under this key.
    Pixels(Option<Key>),
    /// What the cache has.
    Known(Arc<Blob>),
}

/// Sizes of one picture in pixels, each as (height, width) or (top, left).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSizes {
    /// Of the picture before the resize, turned upright.
    pub original: (u32, u32),
    /// Of the crop within the resized picture. In a mirrored picture it is counted from the mirrored left edge, so
    /// that it always names the place in the picture that is seen.
    pub crop_top_left: (u32, u32),
    /// Of the picture delivered.
    pub target: (u32, u32),
}

impl PictureSizes {
    /// Those of a picture that was made in the delivered size and not cropped.
    pub fn as_if_whole(&self) -> Self {
        PictureSizes {
            original: self.target,
            crop_top_left: (0, 0),
            target: self.target,
        }
    }

    /// In the order of SDXL's `time_ids`: original height and width, crop top and left, target height and width.
    pub fn time_ids(&self) -> [u32; 6] {
        let (original, crop, target) = (self.original, self.crop_top_left, self.target);
        [original.0, original.1, crop.0, crop.1, target.0, target.1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_ids_name_height_before_width_and_a_whole_picture_has_no_crop() {
        let sizes = PictureSizes {
            original: (480, 640),
            crop_top_left: (0, 21),
            target: (64, 64),
        };
        assert_eq!(sizes.time_ids(), [480, 640, 0, 21, 64, 64]);
        assert_eq!(sizes.as_if_whole().time_ids(), [64, 64, 0, 0, 64, 64]);
    }
}
