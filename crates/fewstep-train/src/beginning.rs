//! What a run's folder says of how a run in it begins: anew, from a checkpoint, or not at all since it is done.

use crate::checkpoint::{self, Found};
use crate::config::Config;
use crate::error::TrainError;
use crate::finished::Finished;
use crate::observer::{Event, Observer, Report};
use crate::{identity, whole_folder};

/// The ending of a damaged checkpoint's folder.
const DAMAGED: &str = "damaged";

/// How a run begins.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// It is done.
    Finished(Report),
    /// With its first step.
    Start,
    /// From this checkpoint.
    GoOn(Box<Found>),
}

/// Finds the run that the options ask for: finished, at the checkpoint that was named, or at the latest of this very
/// run.
///
/// # Errors
/// Another run lies there, or there is no such checkpoint, or none that is whole.
pub(crate) fn look(config: &Config, total_steps: u64) -> Result<Beginning, TrainError> {
    let output_dir = &config.run.output_dir;
    let wanted = config.run.resume_from_checkpoint.as_deref();
    let identity = identity::of(config);
    let finished = match wanted {
        None | Some("latest") => Finished::read(output_dir),
        // Whoever names a checkpoint goes back on purpose.
        Some(_) => None,
    };
    if let Some(finished) = &finished
        && finished.covers(&identity, total_steps)
    {
        return Ok(Beginning::Finished(finished.clone().report()));
    }
    let Some(found) = checkpoint::find(wanted.unwrap_or("latest"), output_dir)? else {
        return match finished {
            Some(finished) => Err(finished.in_the_way(output_dir, &identity)),
            None => Ok(Beginning::Start),
        };
    };
    let eight_bits = identity::in_eight_bits(&found.state.config);
    if eight_bits != identity::in_eight_bits(&identity) {
        return Err(TrainError::OtherMoments {
            checkpoint: found.checkpoint.path,
            eight_bits,
        });
    }
    let differences = identity::differences(&found.state.config, &identity);
    if wanted.is_none() && !differences.is_empty() {
        return Err(TrainError::OtherRun {
            folder: output_dir.clone(),
            differences,
        });
    }
    Ok(Beginning::GoOn(Box::new(found)))
}

/// Takes damaged checkpoints out of the way, and tells of them; they are kept under another name.
///
/// # Errors
/// A folder cannot be renamed.
pub(crate) fn set_damaged_aside(found: Found, observer: &mut dyn Observer) -> Result<Found, TrainError> {
    for (checkpoint, damage) in &found.damaged {
        let moved_to = whole_folder::move_aside(&checkpoint.path, DAMAGED)?;
        observer.event(&Event::DamagedCheckpoint {
            damage: damage.to_string(),
            moved_to,
        });
    }
    Ok(found)
}
