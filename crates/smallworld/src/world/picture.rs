//! A picture of the small world: 64 by 64 pixels of 8-bit RGB, in and out of files and planes of numbers.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Width and height in pixels.
pub const SIDE: usize = 64;

/// Pixels row by row, each red, green, blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// The picture whose pixel (x, y) is `colour(x, y)`, each channel in [0, 1].
    pub fn from_fn(mut colour: impl FnMut(usize, usize) -> [f32; 3]) -> Self {
        let places = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
        let pixels = places.map(|(x, y)| colour(x, y).map(to_byte)).collect();
        Picture { pixels }
    }

    /// The picture of three planes `[3, 64, 64]` in [-1, 1], as a VAE decodes it; clamped.
    ///
    /// # Errors
    /// Another number of values.
    pub fn from_planes(planes: &[f32]) -> Result<Self> {
        let area = SIDE * SIDE;
        ensure!(
            planes.len() == 3 * area,
            "a picture has 3 x {SIDE} x {SIDE} = {} values, and these are {}",
            3 * area,
            planes.len()
        );
        Ok(Picture::from_fn(|x, y| {
            [0, 1, 2].map(|c| planes[c * area + y * SIDE + x] * 0.5 + 0.5)
        }))
    }

    /// Three planes `[3, 64, 64]` of bytes.
    pub fn planes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..3).flat_map(|c| self.pixels.iter().map(move |p| p[c]))
    }

    /// All pixels, row by row.
    pub fn pixels(&self) -> &[[u8; 3]] {
        &self.pixels
    }

    /// Red, green and blue of every pixel in [0, 1], row by row.
    pub fn colours(&self) -> Vec<[f32; 3]> {
        self.pixels
            .iter()
            .map(|p| p.map(|c| f32::from(c) / 255.0))
            .collect()
    }

    /// The brightness of every pixel in [0, 1], by the weights of ITU-R BT.601.
    pub fn luma(&self) -> Vec<f32> {
        self.pixels
            .iter()
            .map(|&[r, g, b]| (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) / 255.0)
            .collect()
    }

    /// The picture as the `image` crate holds it.
    pub fn to_image(&self) -> image::RgbImage {
        image::RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            image::Rgb(self.pixels[y as usize * SIDE + x as usize])
        })
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// What the encoder refuses.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.to_image()
            .write_to(&mut bytes, image::ImageFormat::Png)
            .context("a picture could not be encoded as PNG")?;
        Ok(bytes.into_inner())
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_png()?)
            .with_context(|| format!("{} could not be written", path.display()))
    }
}

fn to_byte(x: f32) -> u8 {
    (x.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_go_in_and_out() {
        let picture = Picture::from_fn(|x, y| [x as f32 / 63.0, y as f32 / 63.0, 0.25]);
        let planes: Vec<f32> = picture.planes().map(|b| f32::from(b) / 127.5 - 1.0).collect();
        assert_eq!(Picture::from_planes(&planes).unwrap(), picture);
        assert!(Picture::from_planes(&planes[1..]).is_err());
    }
}
