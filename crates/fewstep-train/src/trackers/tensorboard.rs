//! TensorBoard: one event file in OUT/LOGGING_DIR/PROJECT with scalars, pictures, and the options as text and as
//! hyper-parameters.
//!
//! The messages are as much of TensorFlow's event.proto, summary.proto and the hparams plugin's as is written here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use super::file::RecordFile;
use super::{Beginning, End, Picture, Tracker, tfrecord};
use crate::config::Config;
use crate::error::TrainError;
use crate::{metrics, whole_folder};

pub(super) const NAME: &str = "tensorboard";
/// How event files begin, by which TensorBoard knows them.
const PREFIX: &str = "events.out.tfevents.";

/// The open event file.
#[derive(Debug)]
pub(super) struct TensorBoard {
    file: RecordFile,
}

impl TensorBoard {
    /// Goes on with the run's file, without the events of later steps, or begins one.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub(super) fn open(beginning: Beginning<'_>) -> Result<Self, TrainError> {
        let folder = beginning.folder.join(&beginning.config.run.tracker_project_name);
        whole_folder::make(&folder)?;
        let now = metrics::now();
        let path = latest(&folder).unwrap_or_else(|| {
            // The seconds, a host's place, the process: TensorBoard sorts by the first.
            folder.join(format!(
                "{PREFIX}{:.0}.fewstep.{}.0",
                now.floor(),
                std::process::id()
            ))
        });
        let kept = match beginning.resumed {
            Some(step) => kept(&path, step),
            None => 0,
        };
        let file = RecordFile::open(&path, kept)?;
        let mut board = TensorBoard { file };
        if kept == 0 {
            board.write(now, 0, What::FileVersion("brain.Event:2".to_owned()))?;
            board.write(now, 0, What::Summary(about(beginning.config, now)))?;
        }
        Ok(board)
    }

    fn write(&mut self, wall_time: f64, step: u64, what: What) -> Result<(), TrainError> {
        let event = Event {
            wall_time,
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(what),
        };
        self.file.append(&tfrecord::framed(&event.encode_to_vec()))
    }
}

impl Tracker for TensorBoard {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step(&mut self, step: u64, time: f64, scalars: &[(&'static str, f64)]) -> Result<(), TrainError> {
        let value = |(tag, number): &(&str, f64)| Value {
            tag: (*tag).to_owned(),
            metadata: None,
            value: Some(Shown::Simple(*number as f32)),
        };
        let summary = Summary {
            value: scalars.iter().map(value).collect(),
        };
        self.write(time, step, What::Summary(summary))
    }

    fn picture(&mut self, step: u64, time: f64, picture: &Picture<'_>) -> Result<(), TrainError> {
        let [width, height] = picture.size.map(|side| i32::try_from(side).unwrap_or(i32::MAX));
        let image = Image {
            height,
            width,
            colorspace: RGB,
            encoded: picture.png.to_vec(),
        };
        let summary = Summary {
            value: vec![Value {
                tag: picture.name.to_owned(),
                metadata: None,
                value: Some(Shown::Image(image)),
            }],
        };
        self.write(time, step, What::Summary(summary))
    }

    fn close(&mut self, _: End) -> Result<(), TrainError> {
        // What is written is written; there is no ending.
        Ok(())
    }
}

/// The newest event file of a folder.
fn latest(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with(PREFIX) && name.contains(".fewstep."));
    ours.max().map(|name| folder.join(name))
}

/// The bytes of a file up to the first event of a later step, or the first that is broken.
fn kept(path: &Path, step: u64) -> u64 {
    let file = fs::read(path).unwrap_or_default();
    tfrecord::records(&file)
        .take_while(|(event, _)| {
            Event::decode(*event)
                .is_ok_and(|event| u64::try_from(event.step).is_ok_and(|of_event| of_event <= step))
        })
        .last()
        .map_or(0, |(_, end)| end)
}

/// The options, without credentials: to be read as text, and for the table of hyper-parameters.
fn about(config: &Config, now: f64) -> Summary {
    let toml = config.to_toml().unwrap_or_default();
    // An indented block is shown as it is.
    let text: String = toml.lines().map(|line| format!("    {line}\n")).collect();
    let words = config.shown().words();
    let hparams = words.into_iter().map(|(name, word)| {
        let kind = match (word.parse::<f64>(), word.parse::<bool>()) {
            (Ok(number), _) => Kind::Number(number),
            (_, Ok(yes)) => Kind::Bool(yes),
            _ => Kind::Text(word),
        };
        (name, HparamValue { kind: Some(kind) })
    });
    let session = SessionStart {
        hparams: hparams.collect(),
        start_time_secs: now,
    };
    let data = PluginContent {
        version: 0,
        session_start: Some(session),
    };
    let plugin = |name: &str, content: Vec<u8>| {
        Some(Metadata {
            plugin: Some(Plugin {
                name: name.to_owned(),
                content,
            }),
        })
    };
    let tensor = |dtype, size, strings| {
        Some(Shown::Tensor(Tensor {
            dtype,
            shape: Some(Shape {
                dim: vec![Dim { size }],
            }),
            strings,
        }))
    };
    Summary {
        value: vec![
            Value {
                tag: "config.toml".to_owned(),
                metadata: plugin("text", Vec::new()),
                value: tensor(STRING, 1, vec![text.into_bytes()]),
            },
            Value {
                tag: "_hparams_/session_start_info".to_owned(),
                metadata: plugin("hparams", data.encode_to_vec()),
                value: tensor(FLOAT, 0, Vec::new()),
            },
        ],
    }
}

/// TensorFlow's numbers for element types and colours.
const FLOAT: i32 = 1;
const STRING: i32 = 7;
const RGB: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
    #[prost(oneof = "Shown", tags = "2, 4, 8")]
    pub(super) value: Option<Shown>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Shown {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "4")]
    Image(Image),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) encoded: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) strings: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PluginContent {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(message, optional, tag = "3")]
    session_start: Option<SessionStart>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    hparams: BTreeMap<String, HparamValue>,
    #[prost(double, tag = "5")]
    start_time_secs: f64,
}

#[derive(Clone, PartialEq, Message)]
struct HparamValue {
    #[prost(oneof = "Kind", tags = "2, 3, 4")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}
