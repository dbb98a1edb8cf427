//! Typed reading of a config.json: every error names the configuration and the option.
//!
//! It knows no particular configuration.

use serde_json::{Map, Value};

use super::ModelError;

/// The options of one configuration. `null` counts as not set, as it does in diffusers' files.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    config: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Options<'a> {
    /// Reads the options of `config` (a name for errors, like "UNet2DConditionModel") from a JSON object.
    ///
    /// # Errors
    /// `value` is not an object.
    pub fn new(config: &'static str, value: &'a Value) -> Result<Self, ModelError> {
        match value {
            Value::Object(map) => Ok(Options { config, map }),
            other => Err(ModelError::input(
                format!("the configuration of {config}"),
                format!("is not a JSON object but {}", kind(other)),
            )),
        }
    }

    /// The value of an option that is set.
    pub fn get(&self, option: &str) -> Option<&'a Value> {
        self.map.get(option).filter(|value| !value.is_null())
    }

    /// An error about this option; `problem` goes on after its name.
    pub fn error(&self, option: &str, problem: impl std::fmt::Display) -> ModelError {
        ModelError::option(self.config, option, problem)
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn int(&self, option: &str) -> Result<Option<i64>, ModelError> {
        self.read(option, "a whole number", whole)
    }

    /// A whole number above zero: a width, a count.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn count(&self, option: &str) -> Result<Option<i64>, ModelError> {
        self.read(option, "a whole number above zero", |value| {
            whole(value).filter(|n| (1..=LARGEST_COUNT).contains(n))
        })
    }

    /// A number of layers that are built one after another.
    ///
    /// # Errors
    /// It is set to something else, or to more than any model has.
    pub fn layers(&self, option: &str) -> Result<Option<i64>, ModelError> {
        let wanted = format!("a whole number from 1 to {MOST_LAYERS}");
        self.read(option, &wanted, |value| {
            whole(value).filter(|n| (1..=MOST_LAYERS).contains(n))
        })
    }

    /// A finite number.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn float(&self, option: &str) -> Result<Option<f64>, ModelError> {
        self.read(option, "a number", |value| {
            value.as_f64().filter(|x| x.is_finite())
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn flag(&self, option: &str) -> Result<Option<bool>, ModelError> {
        self.read(option, "true or false", Value::as_bool)
    }

    /// Text.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn text(&self, option: &str) -> Result<Option<&'a str>, ModelError> {
        self.read(option, "text", Value::as_str)
    }

    /// A list of whole numbers above zero.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn counts(&self, option: &str) -> Result<Option<Vec<i64>>, ModelError> {
        let each = |value: &Value| whole(value).filter(|n| (1..=LARGEST_COUNT).contains(n));
        self.read(option, "a list of whole numbers above zero", |value| {
            value.as_array()?.iter().map(each).collect()
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn texts(&self, option: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        self.read(option, "a list of texts", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// Refuses an option that is set to anything but `supported`, by name.
    ///
    /// # Errors
    /// It is set to something else.
    pub fn only(&self, option: &str, supported: &[Value]) -> Result<(), ModelError> {
        match self.get(option) {
            Some(value) if !supported.contains(value) => {
                let supported: Vec<_> = supported.iter().map(Value::to_string).collect();
                let supported = match supported.as_slice() {
                    [] => "only leaving it out is supported".to_owned(),
                    some => format!("only {} is supported", some.join(" or ")),
                };
                Err(self.error(option, format!("is {value}, but {supported}")))
            }
            _ => Ok(()),
        }
    }

    fn read<T>(
        &self,
        option: &str,
        wanted: &str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.get(option) else {
            return Ok(None);
        };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(self.error(option, format!("is {value}, but must be {wanted}"))),
        }
    }
}

/// More layers than this are a mistake, or meant to fill the memory with their names.
pub(crate) const MOST_LAYERS: i64 = 64;

/// Widths and counts above this are mistakes, and their products would overflow.
const LARGEST_COUNT: i64 = 1 << 24;

/// Python writes whole numbers as `2` and sometimes as `2.0`.
fn whole(value: &Value) -> Option<i64> {
    let exact = |x: f64| (x.fract() == 0.0 && x.abs() < 1e15).then_some(x as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(exact))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_is_unset_and_a_wrong_type_is_named() {
        let value = json!({"a": null, "b": "x", "c": 2.0, "d": [1, 2], "e": -1});
        let options = Options::new("Test", &value).unwrap();
        assert_eq!(options.int("a").unwrap(), None);
        assert_eq!(options.int("c").unwrap(), Some(2));
        assert_eq!(options.counts("d").unwrap(), Some(vec![1, 2]));
        let error = options.int("b").unwrap_err().to_string();
        assert_eq!(error, "option `b` of Test is \"x\", but must be a whole number");
        assert!(options.count("e").is_err());
        assert!(Options::new("Test", &json!([])).is_err());
    }

    #[test]
    fn only_what_is_supported_passes() {
        let value = json!({"act_fn": "mish", "shift_factor": 0.5});
        let options = Options::new("Test", &value).unwrap();
        let error = options.only("act_fn", &[json!("silu")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "option `act_fn` of Test is \"mish\", but only \"silu\" is supported"
        );
        assert!(options.only("shift_factor", &[]).is_err());
        assert!(options.only("absent", &[]).is_ok());
    }
}
