//! What trackers write, read again; and the framings against bytes that TensorBoard's and W&B's own writers made.

use std::fs;

use prost::Message;
use tempfile::TempDir;

use super::*;
use crate::observer::Observer;

#[derive(Default)]
struct Told(Vec<String>);

impl Observer for Told {
    fn event(&mut self, event: &Event) {
        self.0.push(format!("{event:?}"));
    }
}

fn config(folder: &Path) -> Config {
    let mut config = crate::tiny::config(&[]);
    config.run.output_dir = folder.to_owned();
    config.run.report_to = ReportTo::All;
    let secret = "https://me:hush@host/a.tar".to_owned();
    config.set("train_shards_path_or_url", &[secret]).unwrap();
    config
}

fn metrics(step: u64) -> StepMetrics {
    StepMetrics {
        step,
        samples: 4 * step,
        time: 1e9 + step as f64,
        loss: 1.0 / step as f64,
        lr: 1e-4,
        grad_norm: 1.0,
        samples_per_s: 2.0,
        data_wait_s: 0.1,
        memory_gb: None,
        dropped: serde_json::Map::new(),
        skipped: serde_json::Map::new(),
    }
}

fn png(folder: &Path) -> PathBuf {
    let path = folder.join("picture.png");
    let picture = fewstep_models::pipeline::Rgb8 {
        width: 3,
        height: 2,
        bytes: vec![7; 18],
    };
    crate::picture::write_png(&path, &picture, &[]).unwrap();
    path
}

/// Reports steps, the second with a picture.
fn report(folder: &TempDir, resumed: Option<u64>, steps: &[u64], end: End) -> Vec<String> {
    let mut told = Told::default();
    let mut trackers = Trackers::open(&config(folder.path()), resumed, &mut told);
    for step in steps {
        trackers.step(&metrics(*step), &mut told);
        if *step == 2 {
            let path = png(folder.path());
            trackers.picture((2, 1e9), ("validation", "a fox"), &path, &mut told);
        }
    }
    trackers.close(end, &mut told);
    told.0
}

/// The only file under a folder of which the name begins and ends so.
fn find(folder: &Path, (begin, end): (&str, &str)) -> PathBuf {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false if name.starts_with(begin) && name.ends_with(end) => found.push(entry.path()),
                false => {}
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

const BOARD: (&str, &str) = ("events.out.tfevents.", "");
const WANDB: (&str, &str) = ("run-", ".wandb");

/// The steps of the scalars and of the pictures in the event file.
fn board_steps(folder: &TempDir) -> (Vec<i64>, Vec<i64>) {
    let file = fs::read(find(folder.path(), BOARD)).unwrap();
    let mut steps = (Vec::new(), Vec::new());
    for (record, _) in tfrecord::records(&file) {
        let event = tensorboard::Event::decode(record).unwrap();
        let Some(tensorboard::What::Summary(summary)) = event.what else {
            continue;
        };
        match &summary.value[0].value {
            Some(tensorboard::Shown::Simple(loss)) => {
                assert_eq!(
                    (summary.value[0].tag.as_str(), *loss),
                    ("loss", 1.0 / event.step as f32)
                );
                steps.0.push(event.step);
            }
            Some(tensorboard::Shown::Image(image)) => {
                assert!(image.encoded.starts_with(b"\x89PNG"));
                steps.1.push(event.step);
            }
            _ => {}
        }
    }
    steps
}

/// The numbers of the records, the steps of the history, and whether the run has an end.
fn wandb_records(folder: &TempDir) -> (Vec<i64>, Vec<i64>, bool) {
    let file = fs::read(find(folder.path(), WANDB)).unwrap();
    let (mut numbers, mut steps, mut ended) = (Vec::new(), Vec::new(), false);
    for (record, _) in leveldb::records(&file) {
        let record = wandb::Record::decode(&*record).unwrap();
        numbers.push(record.number);
        match record.what {
            Some(wandb::What::History(history)) => {
                let step = history.step.unwrap().number;
                let of_picture = history
                    .items
                    .iter()
                    .any(|item| item.nested_key[0] == "validation");
                assert_eq!(of_picture, step == 2);
                steps.push(step);
            }
            Some(wandb::What::Exit(_)) => ended = true,
            _ => {}
        }
    }
    (numbers, steps, ended)
}

#[test]
fn a_run_that_goes_on_continues_its_files() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(report(&folder, None, &[1, 2, 3, 4], End::Interrupted), [""; 0]);
    // Cut off while it wrote.
    for kind in [BOARD, WANDB] {
        let path = find(folder.path(), kind);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 3);
        fs::write(path, bytes).unwrap();
    }
    report(&folder, Some(2), &[3], End::Finished);
    assert_eq!(board_steps(&folder), (vec![1, 2, 3], vec![2]));
    let (numbers, steps, ended) = wandb_records(&folder);
    assert_eq!((steps, ended), (vec![1, 2, 3], true));
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    // Trained for longer: the end goes, and comes again.
    report(&folder, Some(3), &[4], End::Finished);
    assert_eq!(wandb_records(&folder).1, [1, 2, 3, 4]);
    find(folder.path(), ("validation_2_", ".png"));
    for kind in [BOARD, WANDB] {
        let bytes = fs::read(find(folder.path(), kind)).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("learning_rate") && !has("hush"));
    }
}

#[test]
fn a_tracker_that_fails_is_told_once_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("logs"), "in the way").unwrap();
    let told = report(&folder, None, &[1, 2], End::Finished);
    assert!(told.len() == 2 && told[0].contains("TrackerFails"), "{told:?}");

    #[derive(Debug)]
    struct Full;
    impl Tracker for Full {
        fn name(&self) -> &'static str {
            "full"
        }
        fn step(&mut self, _: u64, _: f64, _: &[(&'static str, f64)]) -> Result<(), TrainError> {
            Err(TrainError::io(
                "write",
                Path::new("x"),
                std::io::ErrorKind::StorageFull.into(),
            ))
        }
        fn picture(&mut self, _: u64, _: f64, _: &Picture<'_>) -> Result<(), TrainError> {
            Ok(())
        }
        fn close(&mut self, _: End) -> Result<(), TrainError> {
            Ok(())
        }
    }
    let reporting = Reporting {
        tracker: Box::new(Full),
        lost: 0,
    };
    let mut trackers = Trackers { all: vec![reporting] };
    let mut told = Told::default();
    for step in 1..=3 {
        trackers.step(&metrics(step), &mut told);
    }
    trackers.close(End::Finished, &mut told);
    assert!(
        told.0.len() == 2 && told.0[1].contains("records: 3"),
        "{:?}",
        told.0
    );
}

#[test]
fn records_that_cannot_be_written_leave_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut file = file::RecordFile::open(&path, 0).unwrap();
    file.append(b"one").unwrap();
    file.append(b"two").unwrap();
    assert_eq!(file.len(), 6);
    let mut file = file::RecordFile::open(&path, 3).unwrap();
    file.append(b"three").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"onethree");
}

#[test]
fn framings_are_those_of_the_programs_that_read_them() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(&tfrecord::framed(b"fewstep")),
        "0700000000000000bbd79f11666577737465700979b4b6"
    );
    assert_eq!(
        hex(&leveldb::framed(b"fewstep", 7)),
        "3e25d83007000166657773746570"
    );
}

#[test]
fn records_are_split_at_the_ends_of_blocks() {
    let mut file = leveldb::HEADER.to_vec();
    // The second fills its block but for too few bytes for a piece; the fourth goes over three blocks.
    let sizes = [10, 32 * 1024 - 7 - 17 - 7 - 3, 0, 70_000, 5];
    for (n, size) in sizes.into_iter().enumerate() {
        file.extend(leveldb::framed(&vec![n as u8; size], file.len() as u64));
    }
    let found: Vec<usize> = leveldb::records(&file).map(|(record, _)| record.len()).collect();
    assert_eq!(found, sizes);
    let (_, end) = leveldb::records(&file).nth(2).unwrap();
    file.truncate(file.len() - 20);
    let last = leveldb::records(&file).last().unwrap();
    assert_eq!((last.0.len(), last.1), (0, end));
}
