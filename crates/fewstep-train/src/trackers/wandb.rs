//! Weights & Biases: an offline run in OUT/LOGGING_DIR/wandb, which `wandb sync` uploads. Nothing is sent from here.
//!
//! The messages are as much of the client's wandb_internal.proto as is written here.

use std::fs;
use std::path::{Path, PathBuf};

use fewstep_models::weights::{ModelError, write_atomic};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::file::RecordFile;
use super::{Beginning, End, Picture, Tracker, leveldb};
use crate::config::Config;
use crate::error::TrainError;
use crate::{metrics, whole_folder};

pub(super) const NAME: &str = "wandb";
/// What the names of offline runs' folders begin with.
const OFFLINE: &str = "offline-run-";
/// The oldest reader of the format, as the client itself writes it.
const MIN_CONSUMER: &str = "0.70.0";
/// What media lie under, within the run's folder.
const FILES: &str = "files";

/// The open run.
#[derive(Debug)]
pub(super) struct Wandb {
    folder: PathBuf,
    file: RecordFile,
    /// The number of the last record.
    number: i64,
    /// When the run began.
    began: f64,
    /// The last step, kept until the next one: a run has one line a step, with its pictures.
    row: Option<Row>,
}

/// What is known of a step.
#[derive(Debug)]
struct Row {
    step: u64,
    time: f64,
    items: Vec<(Vec<String>, Value)>,
}

impl Wandb {
    /// Goes on with the run's folder, without the records of later steps, or begins one.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(super) fn open(beginning: Beginning<'_>) -> Result<Self, TrainError> {
        let home = beginning.folder.join("wandb");
        whole_folder::make(&home)?;
        let now = metrics::now();
        let found = beginning.resumed.and_then(|step| Some((latest(&home)?, step)));
        if let Some(((folder, path), step)) = found {
            let kept = Kept::of(&path, step);
            if let Some(began) = kept.began {
                return Ok(Wandb {
                    folder,
                    file: RecordFile::open(&path, kept.len)?,
                    number: kept.number,
                    began,
                    row: None,
                });
            }
        }
        let id = new_id(now);
        let stamp = chrono::DateTime::from_timestamp(now as i64, 0).unwrap_or_default();
        let folder = home.join(format!("{OFFLINE}{}-{id}", stamp.format("%Y%m%d_%H%M%S")));
        whole_folder::make(&folder.join(FILES))?;
        let mut file = RecordFile::open(&folder.join(format!("run-{id}.wandb")), 0)?;
        file.append(&leveldb::HEADER)?;
        let mut run = Wandb {
            folder,
            file,
            number: 0,
            began: now,
            row: None,
        };
        run.write(What::Header(Header {
            version: Some(Version {
                producer: format!("fewstep {}", env!("CARGO_PKG_VERSION")),
                min_consumer: MIN_CONSUMER.to_owned(),
            }),
        }))?;
        run.write(What::Run(description(beginning.config, id, now)))?;
        Ok(run)
    }

    fn write(&mut self, what: What) -> Result<(), TrainError> {
        let record = Record {
            number: self.number + 1,
            what: Some(what),
        };
        let framed = leveldb::framed(&record.encode_to_vec(), self.file.len());
        self.file.append(&framed)?;
        self.number += 1;
        Ok(())
    }

    /// Writes the row that is kept, and what the run's summary says of it.
    fn write_row(&mut self) -> Result<(), TrainError> {
        let Some(Row {
            step,
            time,
            mut items,
        }) = self.row.take()
        else {
            return Ok(());
        };
        for (name, value) in [
            ("_step", json!(step)),
            ("_runtime", json!(time - self.began)),
            ("_timestamp", json!(time)),
        ] {
            items.push((vec![name.to_owned()], value));
        }
        let items: Vec<Item> = items
            .into_iter()
            .map(|(nested_key, value)| Item {
                key: String::new(),
                nested_key,
                value_json: value.to_string(),
            })
            .collect();
        self.write(What::Summary(Items { items: items.clone() }))?;
        self.write(What::History(History {
            items,
            step: Some(HistoryStep {
                number: i64::try_from(step).unwrap_or(i64::MAX),
            }),
        }))
    }

    /// The row of `step`, after those before it are written.
    fn row(&mut self, step: u64, time: f64) -> Result<&mut Row, TrainError> {
        if self.row.as_ref().is_some_and(|row| row.step != step) {
            self.write_row()?;
        }
        Ok(self.row.get_or_insert(Row {
            step,
            time,
            items: Vec::new(),
        }))
    }
}

impl Tracker for Wandb {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, step: u64, time: f64, scalars: &[(&'static str, f64)]) -> Result<(), TrainError> {
        let of_scalars = scalars
            .iter()
            .map(|(name, number)| (vec![(*name).to_owned()], json!(number)));
        self.row(step, time)?.items.extend(of_scalars);
        Ok(())
    }

    fn picture(&mut self, step: u64, time: f64, picture: &Picture<'_>) -> Result<(), TrainError> {
        let sum: String = Sha256::digest(picture.png)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("media/images/{}_{step}_{}.png", picture.name, &sum[..20]);
        let path = self.folder.join(FILES).join(&name);
        if let Some(parent) = path.parent() {
            whole_folder::make(parent)?;
        }
        write_atomic(&path, |file| {
            std::io::Write::write_all(file, picture.png)
                .map_err(|error| ModelError::io("write", &path, error))
        })?;
        self.write(What::Files(Files {
            files: vec![FilesItem { path: name.clone() }],
        }))?;
        let [width, height] = picture.size;
        let told = [
            ("_type", json!("image-file")),
            ("path", json!(name)),
            ("sha256", json!(sum)),
            ("size", json!(picture.png.len())),
            ("format", json!("png")),
            ("width", json!(width)),
            ("height", json!(height)),
            ("caption", json!(picture.caption)),
        ];
        let items = told.map(|(key, value)| (vec![picture.name.to_owned(), key.to_owned()], value));
        self.row(step, time)?.items.extend(items);
        Ok(())
    }

    fn close(&mut self, end: End) -> Result<(), TrainError> {
        self.write_row()?;
        match end {
            End::Finished => self.write(What::Exit(Exit { exit_code: 0 })),
            End::Interrupted => Ok(()),
        }
    }
}

impl Drop for Wandb {
    /// A run that ends with an error still has its last row.
    fn drop(&mut self) {
        let _ = self.write_row();
    }
}

/// What the run is called, and its options without credentials.
fn description(config: &Config, id: String, now: f64) -> Run {
    let words = config.shown().words();
    let items = words.into_iter().map(|(key, word)| {
        let value = match (word.parse::<f64>(), word.parse::<bool>()) {
            (Ok(number), _) => json!(number),
            (_, Ok(yes)) => json!(yes),
            _ => json!(word),
        };
        Item {
            key,
            nested_key: Vec::new(),
            value_json: value.to_string(),
        }
    });
    Run {
        id,
        project: config.run.tracker_project_name.clone(),
        config: Some(Items {
            items: items.collect(),
        }),
        start_time: Some(Timestamp {
            seconds: now as i64,
            nanos: (now.fract() * 1e9) as i32,
        }),
    }
}

/// Eight letters and digits that no other run has, most likely.
fn new_id(now: f64) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let digest = Sha256::digest(format!("{now} {}", std::process::id()));
    let letters = digest.iter().take(8);
    letters
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

/// The newest offline run of a folder, and its file.
fn latest(home: &Path) -> Option<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(home).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with(OFFLINE)).max()?;
    let id = newest.rsplit('-').next()?;
    let folder = home.join(&newest);
    let path = folder.join(format!("run-{id}.wandb"));
    path.is_file().then_some((folder, path))
}

/// What stays of a run's file when the run goes on.
#[derive(Debug, Default)]
struct Kept {
    len: u64,
    number: i64,
    /// When the run began; none of a file that says nothing of it.
    began: Option<f64>,
}

impl Kept {
    /// Everything up to the first line of a later step, the run's end, or what is broken.
    fn of(path: &Path, step: u64) -> Self {
        let file = fs::read(path).unwrap_or_default();
        let mut kept = Kept::default();
        for (record, end) in leveldb::records(&file) {
            let Ok(record) = Record::decode(&*record) else {
                break;
            };
            match &record.what {
                Some(What::Exit(_)) => break,
                Some(What::Summary(items)) if items.step().is_some_and(|of_row| of_row > step) => break,
                Some(What::Run(run)) => {
                    let start = run.start_time.clone().unwrap_or_default();
                    kept.began = Some(start.seconds as f64 + f64::from(start.nanos) * 1e-9);
                }
                _ => {}
            }
            (kept.len, kept.number) = (end, record.number);
        }
        kept
    }
}

impl Items {
    /// The step that they are of.
    fn step(&self) -> Option<u64> {
        let item = self.items.iter().find(|item| item.nested_key == ["_step"])?;
        item.value_json.parse().ok()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    pub(super) number: i64,
    #[prost(oneof = "What", tags = "2, 3, 6, 17, 18, 21")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    #[prost(message, tag = "2")]
    History(History),
    #[prost(message, tag = "3")]
    Summary(Items),
    #[prost(message, tag = "6")]
    Files(Files),
    #[prost(message, tag = "17")]
    Run(Run),
    #[prost(message, tag = "18")]
    Exit(Exit),
    #[prost(message, tag = "21")]
    Header(Header),
}

/// A part of the summary, or of the configuration.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Items {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Item {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(super) value_json: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct History {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    pub(super) step: Option<HistoryStep>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryStep {
    #[prost(int64, tag = "1")]
    pub(super) number: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Files {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FilesItem>,
}

#[derive(Clone, PartialEq, Message)]
struct FilesItem {
    #[prost(string, tag = "1")]
    path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Run {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    project: String,
    #[prost(message, optional, tag = "4")]
    config: Option<Items>,
    #[prost(message, optional, tag = "17")]
    start_time: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exit {
    #[prost(int32, tag = "1")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(message, optional, tag = "1")]
    version: Option<Version>,
}

#[derive(Clone, PartialEq, Message)]
struct Version {
    #[prost(string, tag = "1")]
    producer: String,
    #[prost(string, tag = "2")]
    min_consumer: String,
}
