//! What must be known of a PNG file to report it.

/// Width and height, from the file's first chunk.
pub(super) fn png_size(png: &[u8]) -> Option<[usize; 2]> {
    let side = |at: usize| {
        let bytes = png.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    png.starts_with(b"\x89PNG").then_some(())?;
    Some([side(16)?, side(20)?])
}
