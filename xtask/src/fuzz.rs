//! Runs the fuzz targets of `fuzz/` with cargo-fuzz, within bounds on memory and time that count as findings.
//!
//! It knows how they are started; what each of them reads, fuzz/README.md says.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{run, setup};

/// A target, and the features of the fuzz crate that it needs.
#[derive(Debug, PartialEq)]
struct Target {
    name: String,
    features: Vec<String>,
}

/// Runs one target, or all of them one after another, for so many minutes each. With none, the inputs that are kept run
/// once.
pub(crate) fn fuzz(name: Option<&str>, minutes: u64) -> Result<()> {
    let all = targets()?;
    let names: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
    let chosen: Vec<&Target> = all
        .iter()
        .filter(|target| name.is_none_or(|name| target.name == name))
        .collect();
    if chosen.is_empty() {
        bail!(
            "there is no fuzz target {}; there are {}",
            name.unwrap_or_default(),
            names.join(", ")
        );
    }
    find_cargo_fuzz()?;
    if chosen.iter().any(|target| !target.features.is_empty()) {
        setup::ensure()?;
    }
    for target in chosen {
        target.run(minutes)?;
    }
    Ok(())
}

impl Target {
    fn run(&self, minutes: u64) -> Result<()> {
        let mut args = vec!["fuzz".to_owned(), "run".to_owned(), self.name.clone()];
        if !self.features.is_empty() {
            args.extend(["--features".to_owned(), self.features.join(",")]);
        }
        // libFuzzer writes what it finds worth keeping into the first of these.
        for inputs in ["corpus", "seeds", "regressions"] {
            let folder = format!("fuzz/{inputs}/{}", self.name);
            let path = run::root().join(&folder);
            if inputs == "corpus" {
                fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
            }
            if path.is_dir() {
                args.push(folder);
            }
        }
        args.extend(["--", "-rss_limit_mb=2048", "-timeout=10", "-max_len=8192"].map(str::to_owned));
        args.push(match minutes {
            0 => "-runs=0".to_owned(),
            minutes => format!("-max_total_time={}", minutes.saturating_mul(60)),
        });
        let dictionary = format!("fuzz/dictionaries/{}.dict", self.name);
        if run::root().join(&dictionary).is_file() {
            args.push(format!("-dict={dictionary}"));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // The sanitizer's flags are not stable yet; this lets the stable compiler take them.
        run::command_with("cargo", &args, &[("RUSTC_BOOTSTRAP", "1")])
    }
}

fn find_cargo_fuzz() -> Result<()> {
    let found = Command::new("cargo")
        .args(["fuzz", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("cargo-fuzz is missing: `cargo install cargo-fuzz` (it also needs a C++ compiler)");
    }
    Ok(())
}

/// What fuzz/Cargo.toml lists.
fn targets() -> Result<Vec<Target>> {
    let path = run::root().join("fuzz/Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let bins = table.get("bin").and_then(toml::Value::as_array);
    let target = |bin: &toml::Value| {
        let features = bin.get("required-features").and_then(toml::Value::as_array);
        Some(Target {
            name: bin.get("name")?.as_str()?.to_owned(),
            features: features
                .into_iter()
                .flatten()
                .filter_map(|feature| Some(feature.as_str()?.to_owned()))
                .collect(),
        })
    };
    Ok(bins.into_iter().flatten().filter_map(target).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_source_and_seeds() {
        let targets = targets().unwrap();
        assert!(targets.iter().any(|target| target.features.is_empty()));
        assert!(targets.iter().any(|target| target.features == ["models"]));
        for Target { name, .. } in targets {
            let fuzz = run::root().join("fuzz");
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
            assert!(fuzz.join("seeds").join(&name).is_dir(), "{name}");
        }
    }

    #[test]
    fn an_unknown_target_is_named_with_those_there_are() {
        let error = fuzz(Some("zip"), 0).unwrap_err().to_string();
        assert!(
            error.contains("no fuzz target zip; there are spec, tar"),
            "{error}"
        );
    }
}
