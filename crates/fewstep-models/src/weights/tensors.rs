//! Plain files of named tensors: optimiser states, inputs and outputs of `fewstep debug`, golden values.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::dtype::dtype_of;
use super::{ModelError, TensorFile, Written, write_atomic};

/// All tensors of a safetensors file, in their stored dtypes, on the CPU.
///
/// # Errors
/// The file is missing, not whole, or holds a dtype that is not supported.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let file = TensorFile::open(path)?;
    let named = |name: &str| Ok((name.to_owned(), file.tensor(name)?));
    file.names().map(named).collect()
}

/// Writes tensors of any layout and device to a safetensors file, whole or not at all. `metadata` is text
/// for the header; the tensors are written one after another, so that none but the current is copied.
///
/// # Errors
/// A dtype that is not supported, a name that comes twice, or what the operating system refused.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Written, ModelError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    // Larger numbers first, so that every tensor begins at a multiple of its numbers' size.
    tensors.sort_by(|(a, x), (b, y)| number_size(y).cmp(&number_size(x)).then(a.cmp(b)));
    let header = header(path, &tensors, metadata)?;
    write_atomic(path, |file| {
        let mut write = |bytes: &[u8]| {
            file.write_all(bytes)
                .map_err(|error| ModelError::io("write", path, error))
        };
        write(&(header.len() as u64).to_le_bytes())?;
        write(&header)?;
        for (_, tensor) in &tensors {
            write(&tensor_bytes(tensor)?)?;
        }
        Ok(())
    })
}

/// The JSON header, padded with spaces to a multiple of eight bytes.
fn header(
    path: &Path,
    tensors: &[(&str, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ModelError> {
    let bad = |problem: String| ModelError::malformed(path, format_args!("cannot be written: {problem}"));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut end = 0;
    for &(name, tensor) in tensors {
        let kind = tensor.kind();
        let Some(dtype) = dtype_of(kind) else {
            return Err(bad(format!(
                "tensor `{name}` is {kind:?}, which is not supported"
            )));
        };
        let start = end;
        end += byte_size(tensor);
        let info = json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]});
        if header.insert(name.to_owned(), info).is_some() {
            return Err(bad(format!("tensor `{name}` comes twice")));
        }
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// A tensor's numbers as a file holds them, row-major.
///
/// # Errors
/// What LibTorch refuses.
pub fn tensor_bytes(tensor: &Tensor) -> Result<Vec<u8>, ModelError> {
    let mut bytes = vec![0; byte_size(tensor)];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

fn number_size(tensor: &Tensor) -> usize {
    tensor.kind().elt_size_in_bytes()
}

/// The bytes that a tensor takes in a file.
pub(super) fn byte_size(tensor: &Tensor) -> usize {
    tensor.numel() * number_size(tensor)
}
