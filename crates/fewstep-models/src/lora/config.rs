//! PEFT's settings of an adapter: read from adapter_config.json or from a file's metadata, and written to the
//! latter.
//!
//! It knows what the settings say about alphas and ranks. The rest of them concerns training.

use std::collections::BTreeMap;
use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};

use super::error::LoraError;
use super::module::{LoraModule, Part};

/// The key of a file's metadata under which diffusers keeps the settings.
pub(super) const METADATA_KEY: &str = "lora_adapter_metadata";

/// What PEFT takes for `r` and `lora_alpha` where they are not set.
const PEFT_DEFAULT: f64 = 8.0;

/// The most patterns of one setting: SDXL's UNet has some hundred modules.
const MOST_PATTERNS: usize = 4096;

/// The most bytes of a pattern made ready to match. One that counts up words of any script can take any amount.
const LARGEST_PATTERN: usize = 256 << 10;

/// The settings that matter to a reader.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    rank: f64,
    rank_pattern: Vec<(Regex, f64)>,
    alpha: f64,
    alpha_pattern: Vec<(Regex, f64)>,
    /// The scale is alpha / sqrt(rank).
    pub(super) use_rslora: bool,
    /// The weights are a DoRA's.
    pub(super) use_dora: bool,
}

impl AdapterConfig {
    /// The settings of `part` in a metadata text: those whose keys begin with its name. None where there are
    /// none.
    ///
    /// # Errors
    /// The text is no JSON object, or a setting has the wrong type.
    pub(super) fn from_metadata(text: &str, part: Part, path: &Path) -> Result<Option<Self>, LoraError> {
        let bad = |problem: String| LoraError::Settings {
            path: path.to_owned(),
            problem: format!("`{METADATA_KEY}` {problem}"),
        };
        let settings: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| bad(format!("is not a JSON object: {error}")))?;
        let prefix = format!("{}.", part.name());
        let own: Map<String, Value> = settings
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value)))
            .collect();
        match own.is_empty() {
            true => Ok(None),
            false => AdapterConfig::from_json(&own, path).map(Some),
        }
    }

    /// The settings of an adapter_config.json.
    ///
    /// # Errors
    /// A setting has the wrong type.
    pub(super) fn from_json(settings: &Map<String, Value>, path: &Path) -> Result<Self, LoraError> {
        let bad = |problem: String| LoraError::Settings {
            path: path.to_owned(),
            problem,
        };
        let number = |key: &str| match settings.get(key) {
            None | Some(Value::Null) => Ok(PEFT_DEFAULT),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| bad(format!("`{key}` is {value}, not a number"))),
        };
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or(false);
        let pattern = |key: &str| match settings.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(map)) if map.len() > MOST_PATTERNS => {
                let found = map.len();
                Err(bad(format!(
                    "`{key}` has {found} patterns, the limit is {MOST_PATTERNS}"
                )))
            }
            Some(Value::Object(map)) => map
                .iter()
                .map(|(pattern, value)| {
                    let value = value
                        .as_f64()
                        .ok_or_else(|| bad(format!("`{key}` gives {value} for {pattern}, not a number")))?;
                    // PEFT's rule: a pattern is a regular expression for the end of a path.
                    let regex = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
                        .size_limit(LARGEST_PATTERN)
                        .dfa_size_limit(LARGEST_PATTERN)
                        .build()
                        .map_err(|error| bad(format!("`{key}` has the pattern {pattern}: {error}")))?;
                    Ok((regex, value))
                })
                .collect(),
            Some(value) => Err(bad(format!("`{key}` is {value}, not an object"))),
        };
        Ok(AdapterConfig {
            rank: number("r")?,
            rank_pattern: pattern("rank_pattern")?,
            alpha: number("lora_alpha")?,
            alpha_pattern: pattern("alpha_pattern")?,
            use_rslora: flag("use_rslora"),
            use_dora: flag("use_dora"),
        })
    }

    /// The rank that the settings give a module.
    pub(super) fn rank(&self, path: &str) -> f64 {
        first_match(&self.rank_pattern, path).unwrap_or(self.rank)
    }

    /// The alpha of a module of this rank such that alpha / rank is its scale, however the settings put it.
    pub(super) fn alpha(&self, path: &str, rank: i64) -> f64 {
        let alpha = first_match(&self.alpha_pattern, path).unwrap_or(self.alpha);
        match self.use_rslora {
            true => alpha * (rank as f64).sqrt(),
            false => alpha,
        }
    }
}

fn first_match(patterns: &[(Regex, f64)], path: &str) -> Option<f64> {
    let found = patterns.iter().find(|(regex, _)| regex.is_match(path));
    found.map(|&(_, value)| value)
}

/// The settings of a network's adapters, keys with its name before them, as diffusers reads them. Ranks and alphas
/// that differ from the most common one are listed by module.
pub(super) fn settings(part: Part, modules: &BTreeMap<String, LoraModule>) -> Map<String, Value> {
    let alphas: Vec<f64> = modules.values().map(|module| module.alpha).collect();
    let ranks: Vec<f64> = modules.values().map(|module| module.rank() as f64).collect();
    let (rank, alpha) = (most_common(&ranks), most_common(&alphas));
    let others = |values: &[f64], common: f64| -> Value {
        let listed = modules.keys().zip(values).filter(|(_, value)| **value != common);
        listed
            .map(|(path, value)| (target(part, path).to_owned(), number(*value)))
            .collect::<Map<_, _>>()
            .into()
    };
    let targets: Vec<&str> = modules.keys().map(|path| target(part, path)).collect();
    let settings = [
        ("alpha_pattern", others(&alphas, alpha)),
        ("bias", json!("none")),
        ("lora_alpha", number(alpha)),
        ("lora_dropout", json!(0.0)),
        ("r", number(rank)),
        ("rank_pattern", others(&ranks, rank)),
        ("target_modules", json!(targets)),
    ];
    settings
        .into_iter()
        .map(|(key, value)| (format!("{}.{key}", part.name()), value))
        .collect()
}

/// A module's path in settings. transformers dropped the root of text encoders' paths in version 5; PEFT finds a
/// module by the end of its path, so that without the root both versions agree.
fn target(part: Part, path: &str) -> &str {
    match part {
        Part::UNet => path,
        Part::TextEncoder | Part::TextEncoder2 => path.strip_prefix("text_model.").unwrap_or(path),
    }
}

/// The value that comes most often; of several, the largest.
fn most_common(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let runs = sorted.chunk_by(|a, b| a == b);
    let longest = runs.max_by_key(|run| run.len());
    longest.and_then(|run| run.first()).copied().unwrap_or(0.0)
}

/// A whole number without a decimal point: PEFT prints what it finds.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Result<AdapterConfig, LoraError> {
        AdapterConfig::from_json(value.as_object().unwrap(), Path::new("adapter_config.json"))
    }

    #[test]
    fn patterns_are_for_the_ends_of_paths() {
        let config = config(json!({
            "r": 4, "lora_alpha": 8,
            "alpha_pattern": {"attn1.to_q": 2, "^mid_block.*": 0.5, "to_.": 3, r"\w+\.\d+\.\w+_\d+": 7},
            "rank_pattern": {"conv1": 16},
        }))
        .unwrap();
        assert_eq!(config.alpha("down_blocks.0.attn1.to_q", 4), 2.0);
        assert_eq!(config.alpha("down_blocks.0.attn2.to_q", 4), 3.0);
        assert_eq!(config.alpha("down_blocks.0.xattn1.to_k", 4), 3.0);
        assert_eq!(config.alpha("mid_block.resnets.0.conv1", 16), 0.5);
        assert_eq!(config.alpha("down_blocks.0.resnets.0.conv1", 16), 8.0);
        assert_eq!(config.rank("down_blocks.0.resnets.0.conv1"), 16.0);
        assert_eq!(config.rank("down_blocks.0.resnets.0.conv2"), 4.0);
    }

    #[test]
    fn rank_stabilised_scales_become_plain_ones() {
        let config = config(json!({"r": 16, "lora_alpha": 8, "use_rslora": true})).unwrap();
        assert_eq!(config.alpha("conv_in", 16) / 16.0, 8.0 / 4.0);
    }

    #[test]
    fn what_is_not_set_is_as_in_peft_and_wrong_types_are_named() {
        let unset = config(json!({"lora_alpha": null})).unwrap();
        assert_eq!((unset.rank("conv_in"), unset.alpha("conv_in", 8)), (8.0, 8.0));
        let many: Map<String, Value> = (0..4097).map(|i| (format!("to_{i}"), json!(1))).collect();
        for (value, wanted) in [
            (json!({"r": "four"}), "`r` is \"four\", not a number"),
            (
                json!({"alpha_pattern": {"(": 1}}),
                "`alpha_pattern` has the pattern (",
            ),
            // Four hundred of these took fuzzing more than a minute.
            (
                json!({"alpha_pattern": {r"\w{60}": 1}}),
                "has the pattern \\w{60}",
            ),
            (json!({"rank_pattern": many}), "has 4097 patterns"),
            (
                json!({"rank_pattern": {"x": null}}),
                "`rank_pattern` gives null for x",
            ),
            (json!({"rank_pattern": []}), "`rank_pattern` is [], not an object"),
        ] {
            let error = config(value).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn the_most_common_value_is_the_rule() {
        assert_eq!(most_common(&[4.0, 8.0, 4.0, 2.0]), 4.0);
        assert_eq!(most_common(&[4.0, 8.0]), 8.0);
        assert_eq!(number(0.5), json!(0.5));
        assert_eq!(number(64.0).to_string(), "64");
    }
}
