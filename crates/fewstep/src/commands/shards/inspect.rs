//! `fewstep shards inspect`: what is in shards, and what training would leave out of them.

use std::process::ExitCode;

use anyhow::bail;
use fewstep_data::inspect::{Inspection, Spread};
use fewstep_data::source::Access;
use fewstep_data::spec;
use fewstep_train::data_config;

use super::size;
use crate::choice_flags::ChoiceFlags;
use crate::terminal;

/// Says what is in WebDataset shards, and what training would leave out and why.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Shards as for --train_shards_path_or_url: files, folders, patterns, addresses, pipe:COMMAND, -
    #[arg(value_name = "SHARD", required = true)]
    shards: Vec<String>,
    #[command(flatten)]
    choice: ChoiceFlags,
}

const EXAMPLES: &str = "\
Examples:
  fewstep shards inspect shards/foxes/00000.tar
  fewstep shards inspect 'data/{00000..00009}.tar' --resolution 1024 --min_size 700
  fewstep shards inspect 'data/{00000..00009}.tar' --max_pwatermark 0.5 --caption_key caption
  fewstep shards inspect hf://datasets/OWNER/NAME/00000.tar
  zcat shards.tar.gz | fewstep shards inspect -

Every picture is decoded and resized as for training. Exit status: 0, or 1 where not one sample can
be used.";

/// Looks into the shards.
///
/// # Errors
/// Shards that do not exist, or of which not one sample can be used.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = data_config(&args.choice.config(&args.shards)?);
    let mut found = Inspection::default();
    let access = Access::default();
    let sources = spec::expand(&args.shards, &access)?;
    for (number, source) in sources.iter().enumerate() {
        if sources.len() > 1 {
            terminal::note(&format!("{}/{}  {}", number + 1, sources.len(), source.name()));
        }
        found.add(source, &config);
        found.drops.absorb(access.take_retried());
    }
    terminal::result(&report(&found));
    if found.samples == 0 {
        bail!(
            "not one sample of these shards can be used{}",
            found.drops.advice()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn report(found: &Inspection) -> String {
    let mut lines = vec![format!(
        "{} shard(s), {} samples to train on, {} dropped",
        found.shards,
        found.samples,
        found.drops.total()
    )];
    if let Some((first, last)) = &found.keys {
        lines.push(format!("keys from {} to {}", shown(first), shown(last)));
    }
    lines.push(format!("\n{:<16}{:>10}{:>14}", "extension", "files", "together"));
    for (extension, files) in &found.extensions {
        let name = if extension.is_empty() {
            "(none)".to_owned()
        } else {
            shown(extension)
        };
        lines.push(format!("{name:<16}{:>10}{:>14}", files.count, size(files.bytes)));
    }
    lines.push(format!("\n{:<16}{:>10}{:>10}{:>10}", "", "min", "median", "max"));
    let pixels = |number: u64| number.to_string();
    for (what, spread, word) in [
        ("width", found.widths(), pixels as fn(u64) -> String),
        ("height", found.heights(), pixels),
        ("picture file", found.picture_bytes(), size),
        ("caption letters", found.caption_chars(), pixels),
    ] {
        if let Some(Spread { min, median, max }) = spread {
            let (min, median, max) = (word(min), word(median), word(max));
            lines.push(format!("{what:<16}{min:>10}{median:>10}{max:>10}"));
        }
    }
    if !found.captions.is_empty() {
        lines.push("\nsome captions:".into());
    }
    for (name, caption) in &found.captions {
        lines.push(format!("  {}: {}", shown(name), shown(caption)));
    }
    lines.push(format!("\n{}", found.drops));
    lines.join("\n")
}

/// Text from a shard, which may be hostile: control characters are escaped, long texts cut.
fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut line: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
