//! Mutations of safetensors files: the length of the header is put right, and as many bytes follow as it says.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::Value;

const PREFIX: usize = 8;

/// Mutates the file in `data[..size]`, and says how long it is then.
#[must_use]
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let size = fuzzer_mutate(data, size, max_size);
    // What does not fit is worth a try too.
    match seed % 8 {
        0 => size,
        _ => fit(data, size, max_size).unwrap_or(size),
    }
}

/// `None` where the header is no JSON, or its tensors need more room than there is.
fn fit(data: &mut [u8], size: usize, max_size: usize) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(data[..size].get(PREFIX..)?).into_iter::<Value>();
    let header = values.next()?.ok()?;
    let length = values.byte_offset();
    let ends = header
        .as_object()?
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let needed = usize::try_from(ends.max().unwrap_or(0)).ok()?;
    let fitting = needed
        .checked_add(PREFIX + length)
        .filter(|&fitting| fitting <= max_size)?;
    data[..PREFIX].copy_from_slice(&(length as u64).to_le_bytes());
    if let Some(missing) = data.get_mut(size..fitting) {
        missing.fill(0x3c);
    }
    Some(fitting)
}
