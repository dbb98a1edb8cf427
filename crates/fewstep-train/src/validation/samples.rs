//! OUT/samples: a grid for every step at which pictures were painted, `step-000200.png`, and the teacher's own,
//! `teacher.png`, from which a run that goes on takes them. Every file says inside what it was painted with.

use std::fs;
use std::path::{Path, PathBuf};

use fewstep_models::pipeline::Rgb8;
use serde_json::Value;

use super::{Column, Role, Settings};
use crate::error::TrainError;
use crate::picture::{Note, cut, grid, read_png, write_png};
use crate::whole_folder;

/// The note with the settings as JSON.
const SETTINGS: &str = "fewstep";
/// The note that picture browsers show.
const WORDS: &str = "parameters";

/// A grid that is written.
#[derive(Debug)]
pub(crate) struct Painted {
    pub(crate) path: PathBuf,
    /// What it was painted with.
    pub(crate) settings: Value,
    /// The same in words.
    pub(crate) words: String,
}

/// Makes the folder.
///
/// # Errors
/// What the operating system refuses.
pub(super) fn make_folder(settings: &Settings) -> Result<(), TrainError> {
    whole_folder::make(&settings.folder)
}

/// Writes the grid of `step`: a row for each prompt, in it the pictures of the first network, then of the next.
///
/// # Errors
/// What the operating system refuses.
pub(super) fn write(settings: &Settings, step: u64, columns: &[Column]) -> Result<Painted, TrainError> {
    put(settings, &format!("step-{step:06}.png"), Some(step), columns)
}

/// Writes the teacher's pictures.
///
/// # Errors
/// What the operating system refuses.
pub(super) fn write_teacher(settings: &Settings, column: &Column) -> Result<(), TrainError> {
    put(settings, TEACHER, None, std::slice::from_ref(column)).map(|_| ())
}

const TEACHER: &str = "teacher.png";

fn put(
    settings: &Settings,
    name: &str,
    step: Option<u64>,
    columns: &[Column],
) -> Result<Painted, TrainError> {
    let each = settings.each as usize;
    let roles: Vec<Role> = columns.iter().map(|column| column.role).collect();
    let notes = settings.notes(step, &roles);
    let words = words(settings, step, &roles);
    let rows = (0..settings.prompts.len()).flat_map(|prompt| {
        let of_prompt = move |column: &'_ Column| column.pictures[prompt * each..][..each].to_vec();
        columns.iter().flat_map(of_prompt)
    });
    let pictures: Vec<Rgb8> = rows.collect();
    let grid = grid(&pictures, each * columns.len());
    let path = settings.folder.join(name);
    let notes_inside =
        [(WORDS, words.clone()), (SETTINGS, notes.to_string())].map(|(keyword, text)| Note { keyword, text });
    write_png(&path, &grid, &notes_inside)?;
    Ok(Painted {
        path,
        settings: notes,
        words,
    })
}

/// What is to be seen, in words.
fn words(settings: &Settings, step: Option<u64>, roles: &[Role]) -> String {
    let columns: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    let step = step.map_or_else(String::new, |step| format!(" after {step} optimiser steps"));
    format!(
        "{}\nFrom left to right: {}{step}. Seed: {}",
        settings.prompts.join("\n"),
        columns.join(", "),
        settings.seed
    )
}

/// The teacher's pictures, if they lie here and were painted with these very settings.
pub(super) fn read_teacher(settings: &Settings) -> Option<Column> {
    let (grid, notes) = read_png(&settings.folder.join(TEACHER), SETTINGS)?;
    let wanted = settings.notes(None, &[Role::Teacher]);
    if serde_json::from_str::<Value>(&notes).ok()? != wanted {
        return None;
    }
    let count = usize::try_from(settings.count()).ok()?;
    Some(Column {
        role: Role::Teacher,
        pictures: cut(&grid, count, settings.each as usize)?,
    })
}

/// Whether the grid of `step` is there.
pub(super) fn has(settings: &Settings, step: u64) -> bool {
    settings.folder.join(format!("step-{step:06}.png")).is_file()
}

/// The latest grid of a run's folder, relative to it.
pub(crate) fn latest(output_dir: &Path) -> Option<String> {
    let (step, _) = grids(output_dir).into_iter().max_by_key(|(step, _)| *step)?;
    Some(format!("samples/step-{step:06}.png"))
}

/// Removes the grids of later steps than `step`, from which the run goes on, as their lines are from metrics.jsonl.
pub(crate) fn remove_after(output_dir: &Path, step: u64) {
    for (of_step, path) in grids(output_dir) {
        if of_step > step {
            // One that stays is painted over when its step comes again.
            let _ = fs::remove_file(path);
        }
    }
}

/// The grids of a run's folder, by step.
fn grids(output_dir: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(output_dir.join("samples")) else {
        return Vec::new();
    };
    let step_of = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((step_of(&path)?, path))).collect()
}
