//! The flags that put adapters on a model, the same for every command that runs one.

use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;

use fewstep_models::lora::LoraFile;
use fewstep_models::pipeline::{LoraUse, Merge};

use crate::terminal;

/// Which adapters, how much each counts, and how they are put on.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct LoraFlags {
    /// Adapters (LoRA) on the model, of any form that `fewstep lora inspect` knows, and how much they count
    /// [default weight: 1]; may be given several times. A `scheduler` folder beside the first is used too
    #[arg(long, value_name = "FILE[=WEIGHT]")]
    lora: Vec<Weighted>,
    /// Add the adapters into the weights once, instead of running them beside: each step is faster, and the
    /// result is the same up to rounding
    #[arg(long, requires = "lora")]
    fuse_lora: bool,
}

/// A file and how much it counts.
#[derive(Debug, Clone, PartialEq)]
struct Weighted {
    file: PathBuf,
    weight: f64,
}

impl FromStr for Weighted {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if let Some((file, weight)) = word.rsplit_once('=')
            && let Ok(weight) = weight.parse::<f64>()
        {
            return match weight.is_finite() && !file.is_empty() {
                true => Ok(Weighted {
                    file: file.into(),
                    weight,
                }),
                false => Err(format!("`{word}` is no FILE=WEIGHT with a finite weight")),
            };
        }
        Ok(Weighted {
            file: word.into(),
            weight: 1.0,
        })
    }
}

impl LoraFlags {
    /// Whether no adapters are asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.lora.is_empty()
    }

    /// Reads the files, and says what was put right in them.
    ///
    /// # Errors
    /// A file that is no LoRA, or holds what would not load.
    pub(crate) fn read(&self) -> anyhow::Result<(Vec<LoraUse>, Merge)> {
        let uses = self.lora.iter().map(|Weighted { file, weight }| {
            let file = LoraFile::read(file)?;
            for repair in &file.repairs {
                terminal::note(&format!("note: {}: {repair}", file.path.display()));
            }
            Ok(LoraUse {
                file: Rc::new(file),
                weight: *weight,
            })
        });
        let merge = match self.fuse_lora {
            true => Merge::Fuse,
            false => Merge::Attach,
        };
        Ok((uses.collect::<anyhow::Result<_>>()?, merge))
    }

    /// As they were given, for the notes in a picture.
    pub(crate) fn words(&self) -> Vec<String> {
        let word = |lora: &Weighted| format!("{}={}", lora.file.display(), lora.weight);
        self.lora.iter().map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_what_follows_the_last_equals_sign_if_it_is_a_number() {
        let parse = |word: &str| word.parse::<Weighted>().unwrap();
        let weighted = |file: &str, weight| Weighted {
            file: file.into(),
            weight,
        };
        assert_eq!(parse("a.safetensors"), weighted("a.safetensors", 1.0));
        assert_eq!(
            parse("a=b/c.safetensors=-0.5"),
            weighted("a=b/c.safetensors", -0.5)
        );
        assert_eq!(parse("a=b.safetensors"), weighted("a=b.safetensors", 1.0));
        assert!("a=inf".parse::<Weighted>().is_err());
    }
}
