//! A file of LoRAs in a few lines.

use std::collections::BTreeMap;

use fewstep_models::lora::{LoraFile, LoraModule};
use tch::Kind;

/// A line of the summary: what, and how much.
pub(super) type Line = (&'static str, String);

/// What the file holds: its form, the modules of each network, ranks, alphas and dtypes.
pub(super) fn lines(file: &LoraFile) -> Vec<Line> {
    let mut lines = vec![("form", file.form.to_string())];
    for (part, modules) in file.parts() {
        let parameters: usize = modules.values().map(LoraModule::parameters).sum();
        let text = format!("{}, {} parameters", count(modules.len()), thousands(parameters));
        lines.push((part.name(), text));
    }
    let modules: Vec<&LoraModule> = file
        .parts()
        .iter()
        .flat_map(|(_, modules)| modules.values())
        .collect();
    if modules.is_empty() {
        return lines;
    }
    lines.push((
        "rank",
        tally(modules.iter().map(|module| module.rank().to_string())),
    ));
    let sources: Vec<String> = file.alpha_sources.iter().map(ToString::to_string).collect();
    let alphas = tally(modules.iter().map(|module| module.alpha.to_string()));
    lines.push(("alpha", format!("{alphas}; {}", sources.join(", or "))));
    lines.push(("dtype", tally(modules.iter().map(|module| dtype(module)))));
    lines
}

/// The lines below each other, their texts at one column.
pub(super) fn layout(lines: &[Line]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = lines
        .iter()
        .map(|(name, text)| format!("{name:width$}  {text}"))
        .collect();
    lines.join("\n")
}

/// A number of modules.
pub(super) fn count(modules: usize) -> String {
    match modules {
        1 => "1 module".to_owned(),
        n => format!("{n} modules"),
    }
}

/// A value that all have, or each value with the number of those that have it, the most common first.
fn tally(values: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match counts.as_slice() {
        [(only, _)] => only.clone(),
        several => {
            let several = several
                .iter()
                .map(|(value, n)| format!("{value} ({})", count(*n)));
            several.collect::<Vec<_>>().join(", ")
        }
    }
}

fn dtype(module: &LoraModule) -> String {
    match module.a.kind() {
        Kind::Float => "f32".to_owned(),
        Kind::Half => "f16".to_owned(),
        Kind::BFloat16 => "bf16".to_owned(),
        Kind::Double => "f64".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A whole number with commas.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_values_are_counted() {
        assert_eq!(thousands(67_252_224), "67,252,224");
        assert_eq!(thousands(100), "100");
        let values = ["64", "64", "32"].map(str::to_owned);
        assert_eq!(tally(values.into_iter()), "64 (2 modules), 32 (1 module)");
        assert_eq!(tally(["64".to_owned()].into_iter()), "64");
        assert_eq!(
            layout(&[("a", "x".to_owned()), ("abc", "y".to_owned())]),
            "a    x\nabc  y"
        );
    }
}
