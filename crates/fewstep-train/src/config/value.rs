//! The kinds of value that a flag takes, read from a command line's words or from a TOML file.
//!
//! It knows the types, not the flags: which flag has which type is [`super::sections`]' business.

use std::path::PathBuf;

/// How a flag is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// Given or not: `--random_flip`.
    Switch,
    /// With one value: `--resolution 512`.
    Value,
    /// With or without a value; without, it is the word here.
    Optional(&'static str),
    /// With one value, and as often as one likes.
    List,
}

/// What is known of a value's type without a value.
pub(super) trait FlagType {
    /// How it is written on a command line.
    const KIND: FlagKind;
    /// The words that it may be, where they are few.
    const CHOICES: &'static [&'static str] = &[];
}

/// A value that can be set by what a person wrote.
pub(super) trait FlagValue {
    /// Takes the command line's words: one for a value, none for a switch. The error says what is wanted.
    fn set_words(&mut self, words: &[String]) -> Result<(), String>;
    /// Takes a TOML value. The error says what is wanted.
    fn set_toml(&mut self, value: &toml::Value) -> Result<(), String>;
    /// The value as it would be written on a command line; `None` for one that is not set.
    fn word(&self) -> Option<String>;
}

/// A value that is one word.
pub(super) trait Word: Sized {
    /// How it is written on a command line.
    const KIND: FlagKind = FlagKind::Value;
    /// The words that it may be, where they are few.
    const CHOICES: &'static [&'static str] = &[];
    fn parse(word: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

impl<T: Word> FlagType for T {
    const KIND: FlagKind = T::KIND;
    const CHOICES: &'static [&'static str] = T::CHOICES;
}

impl<T: Word> FlagValue for T {
    fn set_words(&mut self, words: &[String]) -> Result<(), String> {
        *self = T::parse(single(words)?)?;
        Ok(())
    }

    fn set_toml(&mut self, value: &toml::Value) -> Result<(), String> {
        *self = T::parse(&toml_word(value)?)?;
        Ok(())
    }

    fn word(&self) -> Option<String> {
        Some(self.write())
    }
}

impl<T: Word> FlagType for Option<T> {
    const KIND: FlagKind = FlagKind::Value;
    const CHOICES: &'static [&'static str] = T::CHOICES;
}

impl<T: Word> FlagValue for Option<T> {
    fn set_words(&mut self, words: &[String]) -> Result<(), String> {
        *self = Some(T::parse(single(words)?)?);
        Ok(())
    }

    fn set_toml(&mut self, value: &toml::Value) -> Result<(), String> {
        *self = Some(T::parse(&toml_word(value)?)?);
        Ok(())
    }

    fn word(&self) -> Option<String> {
        self.as_ref().map(Word::write)
    }
}

impl FlagType for bool {
    const KIND: FlagKind = FlagKind::Switch;
}

impl FlagValue for bool {
    fn set_words(&mut self, words: &[String]) -> Result<(), String> {
        *self = match words {
            [] => true,
            [word] => parse_bool(word)?,
            _ => return Err("it is given more than once".to_owned()),
        };
        Ok(())
    }

    fn set_toml(&mut self, value: &toml::Value) -> Result<(), String> {
        *self = value
            .as_bool()
            .ok_or_else(|| format!("`{value}` is not true or false"))?;
        Ok(())
    }

    fn word(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FlagType for Vec<String> {
    const KIND: FlagKind = FlagKind::List;
}

impl FlagValue for Vec<String> {
    fn set_words(&mut self, words: &[String]) -> Result<(), String> {
        *self = words.to_vec();
        Ok(())
    }

    fn set_toml(&mut self, value: &toml::Value) -> Result<(), String> {
        *self = match value {
            toml::Value::Array(items) => items.iter().map(toml_word).collect::<Result<_, _>>()?,
            one => vec![toml_word(one)?],
        };
        Ok(())
    }

    fn word(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.join(" "))
    }
}

impl Word for String {
    fn parse(word: &str) -> Result<Self, String> {
        Ok(word.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl Word for PathBuf {
    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "" => Err("an empty path names no file".to_owned()),
            path => Ok(PathBuf::from(path)),
        }
    }

    fn write(&self) -> String {
        self.display().to_string()
    }
}

impl Word for f64 {
    fn parse(word: &str) -> Result<Self, String> {
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("`{word}` is not a number")),
        }
    }

    fn write(&self) -> String {
        if *self != 0.0 && self.abs() < 1e-3 {
            return format!("{self:e}");
        }
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Word for $type {
            fn parse(word: &str) -> Result<Self, String> {
                word.parse().map_err(|_| {
                    format!("`{word}` is not a whole number from {} to {}", <$type>::MIN, <$type>::MAX)
                })
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_numbers!(u32, u64, i64);

fn single(words: &[String]) -> Result<&str, String> {
    match words {
        [word] => Ok(word),
        [] => Err("it wants a value".to_owned()),
        _ => Err("it is given more than once".to_owned()),
    }
}

fn parse_bool(word: &str) -> Result<bool, String> {
    word.parse().map_err(|_| format!("`{word}` is not true or false"))
}

/// A TOML string, number or boolean as a word.
fn toml_word(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(word) => Ok(word.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
        _ => Err(format!("`{value}` is not a single value")),
    }
}
