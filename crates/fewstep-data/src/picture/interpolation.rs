//! The filters a picture can be resized with, by the names the reference's flag has.

use std::str::FromStr;

/// The filter with which pictures are resized. All but the nearest ones smooth when they reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle.
    #[default]
    Bilinear,
    /// Catmull-Rom cubic.
    Bicubic,
    /// Average of the pixels covered.
    Box,
    /// The pixel in the middle.
    Nearest,
    /// The pixel in the middle; for 8-bit pictures torchvision means the same by both.
    NearestExact,
    /// Hamming window.
    Hamming,
    /// Windowed sinc with three lobes.
    Lanczos,
}

impl Interpolation {
    /// Every one, by name.
    pub const NAMES: [(&'static str, Interpolation); 7] = [
        ("bilinear", Interpolation::Bilinear),
        ("bicubic", Interpolation::Bicubic),
        ("box", Interpolation::Box),
        ("nearest", Interpolation::Nearest),
        ("nearest_exact", Interpolation::NearestExact),
        ("hamming", Interpolation::Hamming),
        ("lanczos", Interpolation::Lanczos),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, known)| *known == self);
        named.map_or("", |(name, _)| name)
    }
}

/// The name of no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no interpolation \"{0}\"; take bilinear, bicubic, box, nearest, nearest_exact, hamming or lanczos"
)]
pub struct UnknownInterpolation(String);

impl FromStr for Interpolation {
    type Err = UnknownInterpolation;

    fn from_str(name: &str) -> Result<Self, UnknownInterpolation> {
        Interpolation::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, interpolation)| interpolation)
            .ok_or_else(|| UnknownInterpolation(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written_alike() {
        for (name, interpolation) in Interpolation::NAMES {
            assert_eq!(name.parse(), Ok(interpolation));
            assert_eq!(interpolation.name(), name);
            assert_eq!(
                serde_json::to_string(&interpolation).unwrap(),
                format!("\"{name}\"")
            );
        }
        let message = "bilinaer".parse::<Interpolation>().unwrap_err().to_string();
        assert!(
            message.contains("bilinaer") && message.contains("lanczos"),
            "{message}"
        );
    }
}
