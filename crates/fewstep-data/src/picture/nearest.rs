//! Resizing without a filter, as Pillow does it.

use super::Rgb;

/// Takes for each pixel the one under its middle.
pub(super) fn nearest(picture: &Rgb, height: u32, width: u32) -> Rgb {
    let columns: Vec<usize> = middles(picture.width, width).collect();
    let stride = 3 * picture.width as usize;
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for row in middles(picture.height, height) {
        let row = &picture.pixels[row * stride..][..stride];
        for &column in &columns {
            pixels.extend_from_slice(&row[3 * column..3 * column + 3]);
        }
    }
    Rgb {
        width,
        height,
        pixels,
    }
}

/// Where in `from` pixels the middles of `to` pixels lie. The step is added up, as Pillow does: where a middle falls
/// on an edge, the rounding of the sum decides.
fn middles(from: u32, to: u32) -> impl Iterator<Item = usize> {
    let step = f64::from(from) / f64::from(to);
    let last = from.saturating_sub(1) as usize;
    std::iter::successors(Some(step * 0.5), move |place| Some(place + step))
        .take(to as usize)
        .map(move |place| (place as usize).min(last))
}
