//! The flags of a training run: taken from the trainer's own list of options, so that names, defaults and help
//! cannot differ from what it does.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use fewstep_train::config::{Config, ConfigError, Flag, FlagKind, LATER, LaterFlag};

/// What the command line and a configuration file say of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrainFlags {
    file: Option<PathBuf>,
    given: Vec<(&'static str, Vec<String>)>,
    later: Vec<LaterFlag>,
}

impl TrainFlags {
    /// The run's options: defaults, then the file, then the flags.
    ///
    /// # Errors
    /// A file that cannot be read, unknown names, values of a wrong type, or flags that are not built yet,
    /// all of them in one sentence.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(file) = &self.file {
            config.read_toml(file)?;
        }
        for (name, words) in &self.given {
            config.set(name, words)?;
        }
        let mut later = self.later.clone();
        later.extend(later_value(&config));
        if later.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::NotYet(later))
        }
    }
}

/// What a flag that is built asks for by a value that is not: a teacher by its hub name.
fn later_value(config: &Config) -> Option<LaterFlag> {
    let teacher = config.model.pretrained_teacher_model.as_deref();
    teacher.is_some_and(is_hub_name).then_some(LaterFlag {
        name: "pretrained_teacher_model",
        takes_value: true,
        feature: "a teacher by its hub name: give its folder",
        off: "",
    })
}

/// `name/name`, where not even the first lies here.
fn is_hub_name(path: &Path) -> bool {
    let names = path.iter().collect::<Vec<_>>();
    path.is_relative()
        && names.len() == 2
        && names[0] != "."
        && names[0] != ".."
        && !Path::new(names[0]).exists()
}

impl clap::Args for TrainFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE.toml")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Configuration")
            .help("Options under the same names in a TOML file; flags override it");
        command
            .arg(file)
            .args(Config::FLAGS.iter().map(declare))
            .args(LATER.iter().map(declare_later))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// An option of the trainer as a flag.
pub(crate) fn declare(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help_heading(heading(flag.section))
        .help(help(flag));
    let arg = match flag.kind {
        FlagKind::Switch => switch(arg),
        FlagKind::Value => arg.action(ArgAction::Set).value_name("VALUE"),
        FlagKind::Optional(word) => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .default_missing_value(word)
            .value_name("VALUE"),
        FlagKind::List => arg.action(ArgAction::Append).value_name("VALUE"),
    };
    match flag.choices {
        [] => arg.allow_negative_numbers(true),
        choices => arg.value_parser(PossibleValuesParser::new(choices.iter().copied())),
    }
}

/// Given or not; `--flag=false` takes back what a configuration file says.
fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("BOOL")
}

/// A flag of the reference that is known, to be answered by name; `--help` does not offer it.
fn declare_later(flag: &LaterFlag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).hide(true);
    if flag.takes_value {
        arg.action(ArgAction::Set).allow_negative_numbers(true)
    } else {
        switch(arg)
    }
}

fn heading(section: &str) -> String {
    let mut letters = section.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The option's help in one paragraph, with its default.
fn help(flag: &Flag) -> String {
    let text = flag.help.split_whitespace().collect::<Vec<_>>().join(" ");
    match flag.default_word() {
        Some(word) if flag.kind != FlagKind::Switch => format!("{text} [default: {word}]"),
        _ => text,
    }
}

impl clap::FromArgMatches for TrainFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = TrainFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.given = Config::FLAGS
            .iter()
            .filter_map(|flag| Some((flag.name, words(matches, flag.name)?)))
            .collect();
        self.later = LATER
            .iter()
            .filter(|flag| words(matches, flag.name).is_some_and(|words| !flag.is_off(&words)))
            .copied()
            .collect();
        Ok(())
    }
}

/// The words given for a flag, if it was given.
pub(crate) fn words(matches: &ArgMatches, name: &str) -> Option<Vec<String>> {
    if matches.value_source(name)? != ValueSource::CommandLine {
        return None;
    }
    matches
        .get_many::<String>(name)
        .map(|words| words.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn flags(line: &str) -> TrainFlags {
        let command = TrainFlags::augment_args(
            Command::new("train")
                .no_binary_name(true)
                .args_override_self(true),
        );
        TrainFlags::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap()
    }

    #[test]
    fn flags_set_the_configuration() {
        let config = flags("--train_batch_size=2 --train_batch_size 3 --random_flip --center_crop=false")
            .config()
            .unwrap();
        assert_eq!(config.data.train_batch_size, 3);
        assert!(config.data.random_flip && !config.data.center_crop);
        let config = flags("--train_shards_path_or_url a.tar --train_shards_path_or_url b.tar")
            .config()
            .unwrap();
        assert_eq!(config.data.train_shards_path_or_url, ["a.tar", "b.tar"]);
    }

    /// The guide's own command line, its shell variables expanded.
    #[test]
    fn the_guides_line_is_answered_in_one_sentence() {
        let guide = "--pretrained_teacher_model=runwayml/stable-diffusion-v1-5 --output_dir=saved --mixed_precision=fp16 \
            --resolution=512 --learning_rate=1e-6 --loss_type=huber --ema_decay=0.95 --adam_weight_decay=0.0 \
            --max_train_steps=1000 --max_train_samples=4000000 --dataloader_num_workers=8 \
            --train_shards_path_or_url=pipe:curl --validation_steps=200 --checkpointing_steps=200 \
            --checkpoints_total_limit=10 --train_batch_size=12 --gradient_checkpointing \
            --enable_xformers_memory_efficient_attention --gradient_accumulation_steps=1 --use_8bit_adam \
            --resume_from_checkpoint=latest --report_to=wandb --seed=453645634 --push_to_hub";
        let Err(ConfigError::NotYet(later)) = flags(guide).config() else {
            panic!("parts of it are not built");
        };
        let mut names = later.iter().map(|flag| flag.name).collect::<Vec<_>>();
        names.sort_unstable();
        assert_eq!(names, ["pretrained_teacher_model", "push_to_hub"]);
        assert!(flags("--local_rank -1 --push_to_hub=false").later.is_empty());
    }
}
