//! The framing of TensorBoard's event files (TFRecord): length, its checksum, the data, their checksum. It knows no events.

/// A record as it lies in the file.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(len);
    record.extend(masked(&len).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// The whole records of a file, each with the place where it ends; what follows a broken one is left out.
pub(super) fn records(file: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    let mut place = 0;
    std::iter::from_fn(move || {
        let len = file.get(place..place + 8)?;
        let data_len = usize::try_from(u64::from_le_bytes(len.try_into().ok()?)).ok()?;
        let data_end = (place + 12).checked_add(data_len)?;
        let data = file.get(place + 12..data_end)?;
        let sum =
            |bytes: &[u8], at: usize| Some(file.get(at..at.checked_add(4)?)? == masked(bytes).to_le_bytes());
        if !sum(len, place + 8)? || !sum(data, data_end)? {
            return None;
        }
        place = data_end + 4;
        Some((data, place as u64))
    })
}

/// CRC-32C, turned and shifted so that checksums of checksums do not repeat themselves.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
