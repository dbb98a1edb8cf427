//! The list of what differs between the tensors of a file and those of a network, for one error.

use std::fmt::{self, Display};

/// How the tensors of a file differ from a network's.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors that the network has and the file lacks: name and wanted shape.
    pub missing: Vec<(String, Vec<i64>)>,
    /// Tensors that the file has and the network lacks: name and stored shape.
    pub unexpected: Vec<(String, Vec<i64>)>,
    /// Tensors of another shape: name, stored shape, wanted shape.
    pub reshaped: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Tensors whose numbers are not floating point: name and stored dtype.
    pub retyped: Vec<(String, String)>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.reshaped.is_empty()
            && self.retyped.is_empty()
    }
}

/// How many tensors of each kind are named; a wholly wrong file has hundreds.
const LISTED: usize = 12;

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self
            .missing
            .iter()
            .map(|(name, shape)| format!("{name} {shape:?}"));
        let unexpected = self
            .unexpected
            .iter()
            .map(|(name, shape)| format!("{name} {shape:?}"));
        let reshaped = self
            .reshaped
            .iter()
            .map(|(name, stored, wanted)| format!("{name} is {stored:?}, wanted {wanted:?}"));
        let retyped = self
            .retyped
            .iter()
            .map(|(name, dtype)| format!("{name} is {dtype}, wanted floating point"));
        let parts = [
            listed("missing", missing),
            listed("unexpected", unexpected),
            listed("of the wrong shape", reshaped),
            listed("of the wrong dtype", retyped),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

fn listed(what: &str, items: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = items.len();
    if count == 0 {
        return None;
    }
    let names: Vec<_> = items.take(LISTED).collect();
    let more = match count.saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("{count} {what} ({}{more})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_mismatch_is_cut_and_counted() {
        let mismatch = Mismatch {
            missing: (0..20).map(|i| (format!("a.{i}"), vec![1, 2])).collect(),
            reshaped: vec![("b".into(), vec![3], vec![4, 5])],
            ..Mismatch::default()
        };
        let text = mismatch.to_string();
        assert!(text.starts_with("20 missing (a.0 [1, 2], a.1 [1, 2]"), "{text}");
        assert!(
            text.contains("and 8 more); 1 of the wrong shape (b is [3], wanted [4, 5])"),
            "{text}"
        );
    }
}
