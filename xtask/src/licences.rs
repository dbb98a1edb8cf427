//! The licences of all dependencies, against the list in deny.toml.
//!
//! cargo-deny reads the same list; this asks less (names of licences only) and needs no tool installed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::run;

/// Fails with every package whose licence the list does not allow.
pub(crate) fn check() -> Result<()> {
    run::say("licences of dependencies, against deny.toml");
    let allowed = allowed()?;
    let packages = packages()?;
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| {
            !package
                .licence
                .as_deref()
                .is_some_and(|licence| permits(&allowed, licence))
        })
        .map(|package| {
            format!(
                "{} ({})",
                package.name,
                package.licence.as_deref().unwrap_or("no licence")
            )
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    bail!("deny.toml does not allow the licences of: {}", refused.join(", "));
}

struct Package {
    name: String,
    licence: Option<String>,
}

/// All packages of the lock file, as cargo resolves them.
fn packages() -> Result<Vec<Package>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(run::root())
        .output()
        .context("`cargo metadata` could not be started")?;
    if !output.status.success() {
        bail!(
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
    let list = metadata["packages"]
        .as_array()
        .context("`cargo metadata` lists no packages")?;
    Ok(list
        .iter()
        .map(|package| Package {
            name: format!("{} {}", text(&package["name"]), text(&package["version"])),
            licence: package["license"].as_str().map(str::to_owned),
        })
        .collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn allowed() -> Result<Vec<String>> {
    let path = run::root().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let list = table
        .get("licenses")
        .and_then(|section| section.get("allow"))
        .and_then(|list| list.as_array());
    let list = list.with_context(|| format!("{} has no list licenses.allow", path.display()))?;
    Ok(list
        .iter()
        .filter_map(|entry| entry.as_str().map(str::to_owned))
        .collect())
}

/// Whether an expression like `MIT OR Apache-2.0` can be met with the allowed licences.
fn permits(allowed: &[String], licence: &str) -> bool {
    // Old manifests separate alternatives with a slash.
    Expression::parse_mode(licence, ParseMode::LAX)
        .is_ok_and(|expression| expression.evaluate(|need| allowed.contains(&need.to_string())))
}

#[cfg(test)]
mod tests {
    use super::permits;

    #[test]
    fn an_alternative_is_enough_and_a_conjunction_needs_all() {
        let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        assert!(permits(&allowed, "MIT OR GPL-3.0"));
        assert!(permits(&allowed, "GPL-3.0/MIT"));
        assert!(permits(&allowed, "Apache-2.0 WITH LLVM-exception"));
        assert!(!permits(&allowed, "MIT AND GPL-3.0"));
        assert!(!permits(&allowed, "GPL-3.0"));
    }
}
