//! Where a find lies: in its shard, and in the shuffle window. Written as short texts, so that a window of a thousand
//! samples is one line of a checkpoint. It knows nothing of what lies there.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a find lies in its shard.
///
/// A shard opened at a place yields that find first, and then what follows it, as it does when it is read from its
/// beginning. As a text it is `ordinal@at`, or `ordinal` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Place {
    /// Finds before it.
    pub ordinal: u64,
    /// Bytes before the first header that belongs to it, in an archive; 0 where the ordinal says it all.
    pub at: u64,
}

impl Place {
    /// The beginning of a shard.
    pub const START: Place = Place { ordinal: 0, at: 0 };
}

/// A find of some shard of an epoch. As a text it is `turn:place`, or `turn` alone at the beginning of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// The shard, by the turn in which it was opened: 0 is the first of the epoch.
    pub(crate) turn: u64,
    pub(crate) place: Place,
}

/// The samples of a shuffle window, slot by slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Window(pub(crate) Vec<Held>);

/// A text that names no place.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no place in a shard")]
pub struct NoPlace(String);

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            0 => write!(f, "{}", self.ordinal),
            at => write!(f, "{}@{at}", self.ordinal),
        }
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (ordinal, at) = text.split_once('@').unwrap_or((text, "0"));
        match (ordinal.parse(), at.parse()) {
            (Ok(ordinal), Ok(at)) => Ok(Place { ordinal, at }),
            _ => Err(NoPlace(text.into())),
        }
    }
}

impl Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::START => write!(f, "{}", self.turn),
            place => write!(f, "{}:{place}", self.turn),
        }
    }
}

impl FromStr for Held {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (turn, place) = text.split_once(':').unwrap_or((text, "0"));
        let turn = turn.parse().map_err(|_| NoPlace(text.into()))?;
        Ok(Held {
            turn,
            place: place.parse()?,
        })
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        let texts: Vec<String> = window.0.iter().map(Held::to_string).collect();
        texts.join(" ")
    }
}

impl TryFrom<String> for Window {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        let held = text.split_ascii_whitespace().map(str::parse);
        Ok(Window(held.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(turn: u64, ordinal: u64, at: u64) -> Held {
        Held {
            turn,
            place: Place { ordinal, at },
        }
    }

    #[test]
    fn a_window_is_one_short_text() {
        let window = Window(vec![
            held(3, 17, 53248),
            held(0, 0, 0),
            held(12, 5, 0),
            held(1, 0, 512),
        ]);
        let json = serde_json::to_string(&window).unwrap();
        assert_eq!(json, r#""3:17@53248 0 12:5 1:0@512""#);
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
        assert_eq!(
            serde_json::from_str::<Window>(r#""""#).unwrap(),
            Window::default()
        );
    }

    #[test]
    fn what_is_no_place_is_quoted() {
        for text in ["x", "1:", "1:2@", "1:2@x", "-1", "1:2:3"] {
            let error = serde_json::from_str::<Window>(&format!("\"{text}\"")).unwrap_err();
            assert!(error.to_string().contains("names no place in a shard"), "{error}");
        }
    }
}
