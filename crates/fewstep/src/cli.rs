//! The command line as a whole: which commands there are, and how it is read.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command as Parser, CommandFactory, FromArgMatches};

use crate::argv;
use crate::commands::{cache, completions, debug, generate, launch, lora, man, shards, train};
use crate::failure::Usage;

/// Distils Stable Diffusion models into latent consistency models that paint in one to eight steps, and
/// paints with them.
#[derive(Debug, clap::Parser)]
#[command(name = "fewstep", version, after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Train(Box<train::Args>),
    Launch(launch::Args),
    Generate(Box<generate::Args>),
    Cache(Box<cache::Args>),
    Lora(lora::Args),
    Shards(shards::Args),
    Debug(debug::Args),
    Completions(completions::Args),
    Man(man::Args),
}

const EXAMPLES: &str = "\
Examples:
  fewstep train --pretrained_teacher_model models/sd15 --output_dir runs/sd15 \\
      --train_shards_path_or_url 'data/{00000..00099}.tar' --max_train_steps 1000
  fewstep launch -n 8 -- train --config runs/sd15.toml
  fewstep generate --model models/sd15 --unet runs/sd15/unet_target \\
      --prompt 'a red fox in the snow' --out fox.png
  fewstep lora inspect style.safetensors
  fewstep shards pack pictures/foxes shards/foxes
  fewstep COMMAND --help

Long flags may be written with `_` or `-`. Exit status: 0 done, 1 failed, 2 wrong command line or
configuration, 130 or 143 stopped by Ctrl-C or SIGTERM.";

/// Reads the command line's words, the program's name first.
///
/// # Errors
/// What is wrong with them; also `--help` and `--version`, which end the program as clap's errors.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> anyhow::Result<Cli> {
    let parser = Cli::command();
    let words = argv::underscored(words, &long_flags(&parser));
    let matches = parser
        .clone()
        .try_get_matches_from(&words)
        .map_err(|error| explain(error, &parser, &words))?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// The names of the long flags of a command and of those below it.
fn long_flags(parser: &Parser) -> Vec<String> {
    let own = parser
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .map(str::to_owned);
    own.chain(parser.get_subcommands().flat_map(long_flags)).collect()
}

/// An unknown flag is answered with the nearest known one; clap words everything else.
fn explain(error: clap::Error, parser: &Parser, words: &[OsString]) -> anyhow::Error {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) => word.strip_prefix("--"),
        _ => None,
    };
    let Some(name) = unknown else {
        return error.into();
    };
    let (command, path) = descend(parser, words);
    let known = long_flags(command);
    let likeness = |flag: &String| strsim::jaro_winkler(flag, &name.replace('-', "_"));
    match known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) => Usage::error(format!(
            "there is no flag --{name}; the nearest is --{nearest} (`{path} --help` lists them all)"
        )),
        None => error.into(),
    }
}

/// The command that the words call, with its name in full.
fn descend<'a>(parser: &'a Parser, words: &[OsString]) -> (&'a Parser, String) {
    let mut command = parser;
    let mut path = parser.get_name().to_owned();
    for word in words.iter().skip(1) {
        let Some(next) = word.to_str().and_then(|word| command.find_subcommand(word)) else {
            break;
        };
        command = next;
        path = format!("{path} {}", next.get_name());
    }
    (command, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        parse(words.iter().map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_declared_with_underscores() {
        let flags = long_flags(&Cli::command());
        assert!(flags.len() > 80, "{}", flags.len());
        let odd = flags.iter().filter(|flag| flag.contains('-')).collect::<Vec<_>>();
        assert!(odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn an_unknown_flag_names_the_nearest() {
        let text = error(&["fewstep", "train", "--train-batchsize", "4"]);
        assert!(
            text.contains("no flag --train-batchsize; the nearest is --train_batch_size"),
            "{text}"
        );
        let text = error(&["fewstep", "train", "--no_such_flag"]);
        assert!(
            text.contains("no flag --no_such_flag; the nearest is --"),
            "{text}"
        );
        let text = error(&["fewstep", "debug", "forward", "--componnet", "unet"]);
        assert!(
            text.contains("the nearest is --component (`fewstep debug forward --help`"),
            "{text}"
        );
    }
}
