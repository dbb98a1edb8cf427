//! Which samples are wanted, of those that could be used, and which of their captions: by what their JSON says, and by
//! the size of their pictures. It reads no archive and decodes no picture.

use crate::caption;
use crate::drops::Cause;
use crate::json::Json;

/// What a sample must have, and which of its captions count. Unless told otherwise, it is a picture that need not be
/// enlarged, with a caption in a file of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The key of the JSON with the caption, a text or a list of texts. `None`: captions are files.
    pub caption_key: Option<String>,
    /// The least pixels that the shorter side of a picture may have, by the picture itself and not by its JSON. Those
    /// between this and the resolution are enlarged. `None` is the resolution: nothing is enlarged.
    pub min_size: Option<u32>,
    /// The largest probability of a watermark.
    pub max_pwatermark: Option<f64>,
    /// The least aesthetic score.
    pub min_aesthetic: Option<f64>,
    /// The key of the JSON with the probability of a watermark.
    pub pwatermark_key: String,
    /// The key of the JSON with the aesthetic score.
    pub aesthetic_key: String,
    /// What becomes of samples without a score that is asked for.
    pub unscored: Unscored,
}

/// What becomes of samples without a score by which samples are chosen: no JSON, no such key, or no number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unscored {
    /// They are left out and counted.
    #[default]
    Drop,
    /// They are taken.
    Keep,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            caption_key: None,
            min_size: None,
            max_pwatermark: None,
            min_aesthetic: None,
            pwatermark_key: "pwatermark".into(),
            aesthetic_key: "aesthetic".into(),
            unscored: Unscored::Drop,
        }
    }
}

impl Wanted {
    /// Whether it asks for anything that the JSON says.
    pub fn reads_json(&self) -> bool {
        self.caption_key.is_some() || self.max_pwatermark.is_some() || self.min_aesthetic.is_some()
    }

    /// The captions that `json` has under the caption key.
    pub(crate) fn captions(&self, key: &str, json: Option<&Json>) -> Result<Vec<String>, (Cause, String)> {
        let Some(json) = json else {
            return Err((Cause::MissingCaption, format!("has no JSON, and so no {key}")));
        };
        let captions = caption::from_json(json.get(key), key).map_err(|why| (Cause::BadJson, why))?;
        if captions.is_empty() {
            let why = format!("has no {key} in its JSON, whose keys are {}", json.keys());
            return Err((Cause::MissingCaption, why));
        }
        Ok(captions)
    }

    /// Whether a sample is wanted of which `json` says this, or why not.
    pub(crate) fn scores(&self, json: Option<&Json>) -> Result<(), (Cause, String)> {
        if let Some(most) = self.max_pwatermark
            && let Some(score) = self.score(json, &self.pwatermark_key)?
            && score > most
        {
            let why = format!("has {} {score}, the limit is {most}", self.pwatermark_key);
            return Err((Cause::Watermark, why));
        }
        if let Some(least) = self.min_aesthetic
            && let Some(score) = self.score(json, &self.aesthetic_key)?
            && score < least
        {
            let why = format!("has {} {score}, the least is {least}", self.aesthetic_key);
            return Err((Cause::LowAesthetic, why));
        }
        Ok(())
    }

    fn score(&self, json: Option<&Json>, key: &str) -> Result<Option<f64>, (Cause, String)> {
        match (json.and_then(|json| json.number(key)), self.unscored, json) {
            (Some(score), ..) => Ok(Some(score)),
            (None, Unscored::Keep, _) => Ok(None),
            (None, Unscored::Drop, None) => Err((Cause::Unscored, format!("has no JSON, and so no {key}"))),
            (None, Unscored::Drop, Some(json)) => {
                let why = format!("has no number {key} in its JSON, whose keys are {}", json.keys());
                Err((Cause::Unscored, why))
            }
        }
    }

    /// Whether a picture of this size is wanted, or why not.
    pub(crate) fn size(&self, resolution: u32, height: u32, width: u32) -> Result<(), (Cause, String)> {
        let least = self.min_size.unwrap_or(resolution);
        if height.min(width) >= least {
            return Ok(());
        }
        let why = format!("has {width} x {height} pixels, the shorter side must have {least}");
        Err((Cause::SmallPicture, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(wanted: &Wanted, json: &str) -> Result<(), Cause> {
        let json = (!json.is_empty()).then(|| Json::parse(json.as_bytes()).unwrap());
        wanted.scores(json.as_ref()).map_err(|(cause, _)| cause)
    }

    #[test]
    fn a_score_may_be_the_limit_itself() {
        let wanted = Wanted {
            max_pwatermark: Some(0.5),
            min_aesthetic: Some(6.0),
            aesthetic_key: "AESTHETIC_SCORE".into(),
            ..Wanted::default()
        };
        for (json, expected) in [
            (r#"{"pwatermark": 0.5, "AESTHETIC_SCORE": 6}"#, Ok(())),
            (
                r#"{"pwatermark": 0.51, "AESTHETIC_SCORE": 7}"#,
                Err(Cause::Watermark),
            ),
            (
                r#"{"pwatermark": 0, "AESTHETIC_SCORE": 5.9}"#,
                Err(Cause::LowAesthetic),
            ),
            (r#"{"pwatermark": 0, "aesthetic": 9}"#, Err(Cause::Unscored)),
            (
                r#"{"pwatermark": null, "AESTHETIC_SCORE": 9}"#,
                Err(Cause::Unscored),
            ),
            ("", Err(Cause::Unscored)),
        ] {
            assert_eq!(outcome(&wanted, json), expected, "{json}");
        }
    }

    #[test]
    fn samples_without_a_score_may_be_kept() {
        let wanted = Wanted {
            max_pwatermark: Some(0.5),
            unscored: Unscored::Keep,
            ..Wanted::default()
        };
        assert_eq!(outcome(&wanted, ""), Ok(()));
        assert_eq!(outcome(&wanted, r#"{"pwatermark": null}"#), Ok(()));
        assert_eq!(outcome(&wanted, r#"{"pwatermark": 0.9}"#), Err(Cause::Watermark));
    }

    #[test]
    fn a_filter_that_asks_nothing_needs_no_json() {
        assert!(!Wanted::default().reads_json());
        assert_eq!(outcome(&Wanted::default(), ""), Ok(()));
    }

    #[test]
    fn small_pictures_are_those_that_would_be_enlarged_unless_told_otherwise() {
        let small = |min_size, height, width| {
            let wanted = Wanted {
                min_size,
                ..Wanted::default()
            };
            wanted.size(512, height, width).is_err()
        };
        assert!(!small(None, 512, 2000) && small(None, 511, 2000) && small(None, 2000, 511));
        assert!(!small(Some(300), 300, 300) && small(Some(300), 299, 600));
        assert!(small(Some(700), 699, 700) && !small(Some(0), 1, 1));
    }
}
