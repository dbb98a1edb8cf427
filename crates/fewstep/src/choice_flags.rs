//! The flags that say which samples of shards are taken, for commands that look at data without training: the trainer's
//! own, so that both take the same.

use clap::{ArgMatches, Command};
use fewstep_train::config::{Config, ConfigError, Flag};

use crate::train_flags::{declare, words};

const NAMES: &[&str] = &[
    "resolution",
    "interpolation_type",
    "caption_key",
    "min_size",
    "max_pwatermark",
    "min_aesthetic",
    "pwatermark_key",
    "aesthetic_key",
    "keep_unscored",
];

/// What the command line says of which samples are taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChoiceFlags {
    given: Vec<(&'static str, Vec<String>)>,
}

impl ChoiceFlags {
    /// The options of a run that trains on `shards` with these flags.
    ///
    /// # Errors
    /// A value of a wrong type, or flags that do not go together.
    pub(crate) fn config(&self, shards: &[String]) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for (name, words) in &self.given {
            config.set(name, words)?;
        }
        config.set("train_shards_path_or_url", shards)?;
        config.validate_data()?;
        Ok(config)
    }
}

fn flags() -> impl Iterator<Item = &'static Flag> {
    Config::FLAGS.iter().filter(|flag| NAMES.contains(&flag.name))
}

impl clap::Args for ChoiceFlags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|flag| declare(flag).help_heading("Which samples, as for train")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ChoiceFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = ChoiceFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given = flags()
            .filter_map(|flag| Some((flag.name, words(matches, flag.name)?)))
            .collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_option_of_the_trainer() {
        assert_eq!(flags().count(), NAMES.len());
    }
}
