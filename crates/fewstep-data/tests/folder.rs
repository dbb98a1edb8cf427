//! A folder of pictures as the source of samples: the same order, numbers, drops and resume as with shards.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{batches, captions, png};
use fewstep_data::{Cause, DataConfig, Drops, Loader, Origin, PictureFolder};
use tempfile::TempDir;

/// A folder of these files, some of which are pictures.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        write(folder.path(), path, bytes);
    }
    folder
}

fn write(folder: &Path, file: &str, bytes: &[u8]) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Pictures with the numbers 0..count and, as captions, their numbers in .txt files.
fn with_texts(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        write(folder.path(), &format!("{number:03}.png"), &png(number));
        write(
            folder.path(),
            &format!("{number:03}.txt"),
            format!("{number}\n").as_bytes(),
        );
    }
    folder
}

fn config(folder: &Path) -> DataConfig {
    DataConfig {
        origin: Origin::Folder(PictureFolder::new(folder)),
        resolution: 8,
        batch_size: 3,
        seed: 1,
        ..DataConfig::default()
    }
}

/// The captions of one epoch of `samples`, sorted, and what was dropped in it.
fn epoch(folder: &Path, samples: usize) -> (Vec<String>, Drops) {
    let mut loader = Loader::new(DataConfig {
        batch_size: samples,
        ..config(folder)
    })
    .unwrap();
    let mut found = captions(&batches(&mut loader, 1));
    found.sort_unstable();
    (found, loader.drops().clone())
}

fn message(folder: &Path) -> String {
    Loader::new(config(folder)).unwrap_err().to_string()
}

#[test]
fn every_picture_is_seen_once_an_epoch_and_in_another_order_each_time() {
    let folder = with_texts(30);
    let found = captions(&batches(&mut Loader::new(config(folder.path())).unwrap(), 20));
    let mut sorted: Vec<u32> = found[..30]
        .iter()
        .map(|caption| caption.parse().unwrap())
        .collect();
    assert!(!sorted.is_sorted());
    sorted.sort_unstable();
    assert_eq!(sorted, (0..30).collect::<Vec<u32>>());
    assert_ne!(found[..30], found[30..]);
    let threads = DataConfig {
        num_workers: 3,
        ..config(folder.path())
    };
    assert_eq!(captions(&batches(&mut Loader::new(threads).unwrap(), 20)), found);
}

#[test]
fn the_list_is_by_name_and_rows_keep_their_order() {
    let folder = folder(&[
        ("b/2.jpg", b""),
        ("b/10.png", b""),
        ("a.webp", b""),
        ("c/metadata.csv", b"file_name,text\nz.png,z\ny.png,y\n"),
    ]);
    let list = fewstep_data::folder::list(&PictureFolder::new(folder.path())).unwrap();
    let names = list.iter().map(|shard| {
        let name = Path::new(shard.name());
        name.strip_prefix(folder.path())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["c/z.png", "c/y.png", "a.webp", "b/10.png", "b/2.jpg"]
    );
}

#[test]
fn metadata_may_lie_in_folders_inside_and_in_two_formats() {
    let folder = folder(&[
        (
            "metadata.jsonl",
            b"{\"file_name\": \"a.png\", \"text\": \"a\"}\n{\"file_name\": \"in/b.png\", \"text\": \"b\"}",
        ),
        ("a.png", &png(1)),
        ("in/b.png", &png(2)),
        ("more/metadata.csv", b"file_name,text\nc.png,c\n"),
        ("more/c.png", &png(3)),
        (".hidden/d.png", &png(4)),
    ]);
    let (found, drops) = epoch(folder.path(), 3);
    assert_eq!(found, ["a", "b", "c"]);
    assert!(drops.is_empty(), "{drops}");
}

#[test]
fn what_cannot_be_used_is_counted_with_its_file_and_line() {
    let rows = "{\"file_name\": \"a.png\", \"text\": \"a\"}\n{\"file_name\": \"lost.png\", \"text\": \"x\"}\nno json\n\
        {\"file_name\": \"b.png\", \"text\": null}\n{\"file_name\": \"c.png\", \"text\": \"c\"}\n";
    let folder = folder(&[
        ("metadata.jsonl", rows.as_bytes()),
        ("a.png", &png(1)),
        ("b.png", &png(2)),
        ("c.png", b"garbage"),
        ("unnamed.jpg", &png(3)),
    ]);
    // The second sample comes from the second epoch: by then all of the first was seen.
    let (found, drops) = epoch(folder.path(), 2);
    assert_eq!(found, ["a", "a"]);
    let first = |cause| {
        let (_, tally) = drops.iter().find(|(found, _)| *found == cause).unwrap();
        tally.first.clone()
    };
    for (cause, words) in [
        (
            Cause::MissingImage,
            "lost.png (metadata.jsonl, line 2) does not exist",
        ),
        (Cause::BadRow, "metadata.jsonl, line 3 is no JSON object"),
        (Cause::BadPicture, "c.png is neither a JPEG"),
    ] {
        assert!(first(cause).contains(words), "{}", first(cause));
    }
    let captionless = Drops::count(&drops, Cause::MissingCaption);
    assert!(captionless >= 2, "{drops}");
}

#[test]
fn a_picture_without_a_text_beside_it_is_counted() {
    let folder = with_texts(2);
    write(folder.path(), "x.png", &png(3));
    write(folder.path(), "latin.png", &png(4));
    write(folder.path(), "latin.txt", b"caf\xe9");
    let (_, drops) = epoch(folder.path(), 4);
    assert!(
        drops.count(Cause::MissingCaption) >= 1 && drops.count(Cause::CaptionNotUtf8) >= 1,
        "{drops}"
    );
    assert!(
        drops.to_string().contains("x.png has no x.txt beside it"),
        "{drops}"
    );
}

#[test]
fn of_several_captions_one_is_drawn_for_each_number() {
    let folder = folder(&[
        (
            "metadata.jsonl",
            b"{\"file_name\": \"a.png\", \"text\": [\"one\", \"two\", \"three\"]}",
        ),
        ("a.png", &png(1)),
    ]);
    let run = |num_workers| {
        let mut loader = Loader::new(DataConfig {
            num_workers,
            ..config(folder.path())
        })
        .unwrap();
        captions(&batches(&mut loader, 20))
    };
    let drawn = run(0);
    for caption in ["one", "two", "three"] {
        let count = drawn.iter().filter(|drawn| *drawn == caption).count();
        assert!((8..=36).contains(&count), "{caption} {count} times of 60");
    }
    assert_eq!(run(2), drawn);
}

#[test]
fn a_folder_without_captions_says_what_is_expected() {
    let lonely = folder(&[("a.png", &png(1)), ("b.jpg", &png(2))]);
    let text = message(lonely.path());
    assert!(text.contains("has no captions (it holds 2 picture(s))"), "{text}");
    assert!(text.contains("metadata.jsonl") && text.contains(".txt beside each") && text.contains("parquet"));
    let text = message(folder(&[("a.tar", b"")]).path());
    assert!(text.contains("--train_shards_path_or_url"), "{text}");
    assert!(message(folder(&[]).path()).contains("it is empty"));
    assert!(message(Path::new("nowhere")).contains("nowhere does not exist"));
}

#[test]
fn nothing_usable_is_an_error_with_the_table() {
    let folder = folder(&[("metadata.csv", b"file_name,text\na.png,a\nb.png,b\n")]);
    let error = Loader::new(config(folder.path()))
        .unwrap()
        .next_batch()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("of 2 picture(s)") && text.contains("(metadata.csv, line "),
        "{text}"
    );
}
