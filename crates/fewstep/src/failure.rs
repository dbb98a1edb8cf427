//! How a command ends when it fails: one sentence on standard error, and a status that says whose fault it was.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed |
//! | 2 | the command line or the configuration is wrong |
//! | 128 + n | signal n stopped it (130: Ctrl-C, 143: SIGTERM) |

use std::process::ExitCode;

use fewstep_train::{ConfigError, RanksError, TrainError};

use crate::terminal;

/// The command line's or the configuration's fault, in one sentence.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    /// With the sentence that says what is wrong, and what to do.
    pub(crate) fn error(sentence: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Usage(sentence.into()))
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints the error, and returns the status to leave with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(told(error))
}

/// Prints the error, and returns the status as a number.
pub(crate) fn told(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        // Clap lays its messages out itself; `--help` and `--version` come this way too, with status 0.
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(1);
    }
    terminal::note(&format!("error: {}", sentence(error)));
    if error.chain().any(is_the_callers) {
        return 2;
    }
    1
}

/// Whether the command line or the configuration is at fault.
fn is_the_callers(cause: &(dyn std::error::Error + 'static)) -> bool {
    let of_a_run = cause.downcast_ref::<TrainError>();
    cause.is::<Usage>()
        || cause.is::<ConfigError>()
        || matches!(cause.downcast_ref(), Some(RanksError::Environment(_)))
        || matches!(
            of_a_run,
            Some(
                TrainError::Config(_)
                    | TrainError::Device { .. }
                    | TrainError::Ranks(RanksError::Differ { .. } | RanksError::Environment(_))
                    | TrainError::OtherRun { .. }
                    | TrainError::FinishedRun { .. }
                    | TrainError::NoCheckpoint { .. }
            )
        )
}

/// The status of a command that the signal `number` stopped.
pub(crate) fn stopped_by(number: i32) -> ExitCode {
    u8::try_from(128 + number).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The error and its causes, each once: many messages quote the one below them already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("no such file").context("a.json cannot be read: no such file");
        assert_eq!(sentence(&error), "a.json cannot be read: no such file");
        let error = anyhow::anyhow!("no such file").context("a.json cannot be read");
        assert_eq!(sentence(&error), "a.json cannot be read: no such file");
    }
}
