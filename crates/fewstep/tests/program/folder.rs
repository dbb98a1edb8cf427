//! `fewstep train --train_data_dir`: on pictures with metadata, on parquet files, and on folders that are no good.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::common::{fewstep, fixture, word};
use super::train::{losses, same_weights, without_data};

/// A little picture whose colour tells its number.
pub(crate) fn picture(path: &Path, number: u8) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, 40, 36);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..40 * 36)
        .flat_map(|place| [number * 20, (place % 251) as u8, 90])
        .collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// A folder of six pictures, named in metadata whose captions are in the column `words`.
pub(crate) fn pictures() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut lines = String::new();
    for number in 0..6 {
        picture(&folder.path().join(format!("{number}.png")), number);
        lines += &format!("{{\"file_name\": \"{number}.png\", \"words\": \"picture {number}\"}}\n");
    }
    fs::write(folder.path().join("metadata.jsonl"), lines).unwrap();
    folder
}

/// A run on a folder, with further flags.
fn line(out: &Path, data: &Path, flags: &[&str]) -> Vec<String> {
    let data = format!("--train_data_dir={}", word(data));
    without_data(out, &[&[&*data], flags].concat())
}

#[test]
fn a_run_on_a_folder_that_was_cut_in_two_ends_as_one_that_was_not() {
    let (data, runs) = (pictures(), TempDir::new().unwrap());
    let (whole, halves) = (runs.path().join("whole"), runs.path().join("halves"));
    let run = |out: &Path, steps: &str| fewstep(line(out, data.path(), &["--caption_column=words", steps]));
    run(&whole, "--max_train_steps=4").ok();
    run(&halves, "--max_train_steps=2").ok();
    let ran = run(&halves, "--max_train_steps=4").ok();
    assert!(ran.stderr.contains("going on after step 2"), "{}", ran.stderr);
    assert_eq!(losses(&whole), losses(&halves));
    same_weights(&whole, &halves, "unet");

    // Another list of pictures is another order: that is said, and the next epoch begins.
    let metadata = data.path().join("metadata.jsonl");
    let more = fs::read_to_string(&metadata).unwrap() + "{\"file_name\": \"0.png\", \"words\": \"again\"}\n";
    fs::write(metadata, more).unwrap();
    let ran = run(&halves, "--max_train_steps=6").ok();
    for wanted in ["at the beginning of the next epoch", "was 6 and is 7"] {
        assert!(ran.stderr.contains(wanted), "{}", ran.stderr);
    }
    assert_eq!(losses(&halves).len(), 6);
}

#[test]
fn parquet_files_train_and_what_is_left_out_is_counted() {
    let (data, runs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::copy(
        fixture("data/parquet/holes.parquet"),
        data.path().join("train.parquet"),
    )
    .unwrap();
    let flags = [
        "--image_column=jpg",
        "--caption_column=captions",
        "--min_size=20",
        "--max_train_steps=2",
    ];
    let ran = fewstep(line(&runs.path().join("run"), data.path(), &flags)).ok();
    assert!(
        ran.stderr.contains("row 2 holds no bytes of a picture"),
        "{}",
        ran.stderr
    );
    let text = fewstep(line(
        &runs.path().join("other"),
        data.path(),
        &["--max_train_steps=2"],
    ))
    .failed(1);
    assert!(text.contains("its columns are jpg, captions, score"), "{text}");
}

#[test]
fn a_folder_that_is_no_good_is_answered_in_one_sentence() {
    let (data, runs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let out = runs.path().join("run");
    picture(&data.path().join("a.png"), 1);
    let text = fewstep(line(&out, data.path(), &["--max_train_steps=1"])).failed(1);
    assert!(text.contains("has no captions (it holds 1 picture(s))"), "{text}");
    let shards = format!("--train_shards_path_or_url={}", word(fixture("data/good.tar")));
    let text = fewstep(line(&out, data.path(), &["--max_train_steps=1", &shards])).failed(2);
    assert!(
        text.contains("--train_data_dir: ") && text.contains("--train_shards_path_or_url"),
        "{text}"
    );
}
