//! When a run paints its validation pictures, and what it does when that fails: it says so and goes on, for pictures are
//! to look at, and nothing is trained with them.

use std::time::{Duration, Instant};

use fewstep_models::pipeline::Rgb8;
use serde_json::{Value, json};

use crate::error::TrainError;
use crate::metrics::now;
use crate::observer::{Event, Observer};
use crate::signals::Stop;
use crate::trainer::Run;
use crate::validation::Column;

/// What became of pictures that were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Painting {
    /// They are painted, or failed, or none were due.
    Over,
    /// They gave way to the wish to stop, and are painted when the run goes on.
    GivenUp,
}

/// What a rank hands in.
#[derive(Debug)]
enum Share {
    Painted(Vec<Column>),
    /// It was asked to stop.
    GivenUp,
    Failed(String),
}

impl Run {
    /// Paints the pictures that are due after the last step. Every rank comes here after the same steps.
    ///
    /// # Errors
    /// Ranks that are gone, or numbers of the last step that end the run; nothing that is wrong with pictures alone.
    pub(crate) fn validate_if_due(
        &mut self,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<Painting, TrainError> {
        if !self.is_validation_due() {
            return Ok(Painting::Over);
        }
        self.read_pending(observer)?;
        // The last update may have been skipped.
        if !self.is_validation_due() {
            return Ok(Painting::Over);
        }
        let begun = Instant::now();
        let painted = self.paint(stop)?;
        // Several ranks stop after the same step, which is the next one.
        if matches!(painted, Share::GivenUp) && self.team.is_none() {
            return Ok(Painting::GivenUp);
        }
        self.tell_painted(painted, begun.elapsed(), observer)?;
        // What came of it took a while, which is no step's.
        self.last_step_end = Instant::now();
        Ok(Painting::Over)
    }

    fn is_validation_due(&self) -> bool {
        self.validation.as_ref().is_some_and(|validation| {
            // After a skipped update the step is the same as before.
            self.step > 0
                && self.step.is_multiple_of(validation.settings.every)
                && validation.step != Some(self.step)
        })
    }

    /// This rank's pictures, and on the one that writes those of all.
    fn paint(&mut self, stop: &Stop) -> Result<Share, TrainError> {
        let Some(validation) = &mut self.validation else {
            return Ok(Share::GivenUp);
        };
        validation.step = Some(self.step);
        let networks = (&self.preparer.conditioner, &self.unets, &self.scheduler);
        let is_to_stop = || stop.is_asked();
        let own = match validation.paint(networks, self.config.part, &is_to_stop) {
            Ok(Some(columns)) => Share::Painted(columns),
            Ok(None) => Share::GivenUp,
            Err(error) => Share::Failed(error.to_string()),
        };
        match &mut self.team {
            None => Ok(own),
            Some(team) => {
                let all = team.ranks.collect(pack(&own))?;
                Ok(together(own, &all))
            }
        }
    }

    /// Writes the grid, where this rank does, and tells what came of it.
    fn tell_painted(
        &mut self,
        painted: Share,
        took: Duration,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (step, leads) = (self.step, self.leads());
        let Some(validation) = self.validation.as_mut().filter(|_| leads) else {
            return Ok(());
        };
        let outcome = match painted {
            Share::GivenUp => return Ok(()),
            Share::Failed(reason) => Err(reason),
            Share::Painted(columns) => validation.write(step, columns).map_err(|error| error.to_string()),
        };
        let (name, more) = match &outcome {
            Ok(painted) => {
                let mut more = painted.settings.clone();
                more["path"] = json!(painted.path.strip_prefix(&self.config.run.output_dir).ok());
                more["took_s"] = json!(took.as_secs_f64());
                ("validation", more)
            }
            Err(reason) => ("validation_failed", json!({ "reason": reason })),
        };
        let written = self.metrics.event(name, step, without_step(more));
        self.take_note_of_written(written, observer)?;
        if let Ok(painted) = &outcome {
            let caption = painted.words.as_str();
            self.trackers
                .picture((step, now()), ("validation", caption), &painted.path, observer);
        }
        observer.event(&match outcome {
            Ok(painted) => Event::Validated {
                step,
                path: painted.path,
            },
            Err(reason) => Event::NotValidated { step, reason },
        });
        Ok(())
    }
}

/// The line has its step already.
fn without_step(mut more: Value) -> Value {
    if let Value::Object(more) = &mut more {
        more.remove("step");
    }
    more
}

/// A rank's share as bytes: pictures one after another, since all have one size.
fn pack(share: &Share) -> Vec<u8> {
    match share {
        Share::GivenUp => vec![GIVEN_UP],
        Share::Failed(reason) => [&[FAILED], reason.as_bytes()].concat(),
        Share::Painted(columns) => {
            let pictures = columns.iter().flat_map(|column| &column.pictures);
            let bytes = pictures.flat_map(|picture| &picture.bytes).copied();
            std::iter::once(PAINTED).chain(bytes).collect()
        }
    }
}

const GIVEN_UP: u8 = 0;
const FAILED: u8 = 1;
const PAINTED: u8 = 2;

/// Rank 0's own share with those of the others; of another rank, its own. Pictures are dealt out by their numbers, one to
/// each rank in turn.
fn together(own: Share, all: &[Vec<u8>]) -> Share {
    let Share::Painted(columns) = own else { return own };
    for (rank, bytes) in all.iter().enumerate().skip(1) {
        match bytes.split_first() {
            Some((&PAINTED, _)) => {}
            Some((&FAILED, reason)) => {
                return Share::Failed(format!("rank {rank}: {}", String::from_utf8_lossy(reason)));
            }
            _ => return Share::GivenUp,
        }
    }
    let Some(first) = columns.first().and_then(|column| column.pictures.first()) else {
        return Share::Painted(columns);
    };
    let (width, height) = (first.width, first.height);
    let dealt: Vec<Vec<Rgb8>> = all
        .iter()
        .map(|bytes| {
            let pictures = bytes.get(1..).unwrap_or(&[]).chunks_exact(3 * width * height);
            let picture = |bytes: &[u8]| Rgb8 {
                width,
                height,
                bytes: bytes.to_vec(),
            };
            pictures.map(picture).collect()
        })
        .collect();
    let networks = columns.len();
    let columns = columns.into_iter().enumerate().map(|(nth, column)| {
        // Each rank has as many pictures of each network.
        let of_network = dealt.iter().map(|pictures| {
            let each = pictures.len() / networks;
            &pictures[nth * each..(nth + 1) * each]
        });
        let of_network: Vec<&[Rgb8]> = of_network.collect();
        let most = of_network
            .iter()
            .map(|pictures| pictures.len())
            .max()
            .unwrap_or(0);
        let turns = (0..most).flat_map(|turn| of_network.iter().filter_map(move |own| own.get(turn)));
        Column {
            role: column.role,
            pictures: turns.cloned().collect(),
        }
    });
    Share::Painted(columns.collect())
}
