//! Any bytes as a picture: header, EXIF, decoding to RGB, and the resize.

#![no_main]

use fewstep_data::picture::{PictureResizer, decode, open, shorter_side_to};
use fewstep_data::{Interpolation, Limits};
use libfuzzer_sys::fuzz_target;

/// A megapixel is quick, and room enough for what can be wrong.
const MAX_PIXELS: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        max_pixels: MAX_PIXELS,
        max_side: 4096,
        ..Limits::default()
    };
    let Ok(opened) = open(bytes, &limits) else {
        assert!(decode(bytes, &limits).is_err());
        return;
    };
    let (size, turn) = (opened.size(), opened.turn());
    let Ok(stored) = opened.decode() else { return };
    let upright = decode(bytes, &limits).expect("it was decoded before");
    assert_eq!((upright.height, upright.width), size);
    assert_eq!(
        upright.pixels.len() as u64,
        3 * u64::from(size.0) * u64::from(size.1)
    );
    let (height, width) = shorter_side_to(16, size.0, size.1);
    if height * width <= MAX_PIXELS {
        let (height, width) = (height as u32, width as u32);
        let mut resizer = PictureResizer::default();
        let small = resizer.upright(stored, turn, height, width, Interpolation::default());
        let small = small.expect("any picture can be resized");
        assert_eq!((small.height, small.width), (height, width));
    }
});
