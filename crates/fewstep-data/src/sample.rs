//! Members of an archive to samples: consecutive files with one key. Pictures stay encoded here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use crate::caption;
use crate::config::Limits;
use crate::drops::{Cause, Dropped};
use crate::json::Json;
use crate::place::Place;
use crate::source::cause_of;
use crate::tar::{Member, Members, TarError};
use crate::wanted::Wanted;

/// Extensions of pictures, the preferred one first.
const IMAGES: [&str; 4] = ["jpg", "png", "jpeg", "webp"];

/// Extensions of captions, the preferred one first.
const CAPTIONS: [&str; 3] = ["text", "txt", "caption"];

/// The longest path of a member, in bytes: what a file system takes.
const LONGEST_PATH: usize = 4096;

/// The most members of one sample.
const MOST_MEMBERS: usize = 1000;

/// A picture, still encoded, and what it may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Name of the shard, or of the folder or parquet file.
    pub shard: Arc<str>,
    /// Path within the shard up to the first `.` of the file name; in a folder the whole path, in a parquet file the
    /// row.
    pub key: String,
    /// The picture file.
    pub image: Vec<u8>,
    /// The captions, at least one, one of which is drawn whenever the sample is delivered.
    pub captions: Vec<String>,
}

impl Sample {
    /// A sample with those of `captions` that say something.
    ///
    /// # Errors
    /// None of them does; in words, after the sample's name.
    pub(crate) fn new(
        shard: &Arc<str>,
        key: String,
        image: Vec<u8>,
        captions: Vec<String>,
    ) -> Result<Self, (Cause, String)> {
        Ok(Sample {
            shard: Arc::clone(shard),
            key,
            image,
            captions: caption::usable(captions)?,
        })
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        format!("{}: {}", self.shard, self.key)
    }
}

/// What a shard holds at some place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A complete sample.
    Sample(Sample),
    /// Something that cannot be one.
    Dropped(Dropped),
}

/// The samples of one archive, in its order. An archive that breaks off yields what came before, and then one
/// [`Cause::BrokenShard`].
pub struct Samples<R> {
    shard: Arc<str>,
    members: Members<R>,
    limits: Limits,
    wanted: Arc<Wanted>,
    group: Option<Group>,
    ready: VecDeque<(Place, Found)>,
    /// Number of the next find.
    ordinal: u64,
    /// Where the last member begins.
    member: u64,
    /// The first member of a group that has not been begun.
    next_member: Option<Member>,
    files: BTreeMap<String, Files>,
    ended: bool,
}

/// Files of one extension.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl<R: Read> Samples<R> {
    /// The samples of the archive that `reader` yields; `shard` is its name.
    pub fn new(shard: Arc<str>, reader: R, limits: Limits, wanted: Arc<Wanted>) -> Self {
        Self::starting_at(Place::START, shard, reader, limits, wanted)
    }

    /// The samples from the place `from` on, where `reader` stands.
    pub fn starting_at(from: Place, shard: Arc<str>, reader: R, limits: Limits, wanted: Arc<Wanted>) -> Self {
        Samples {
            shard,
            members: Members::starting_at(from.at, reader),
            limits,
            wanted,
            group: None,
            ready: VecDeque::new(),
            ordinal: from.ordinal,
            member: from.at,
            next_member: None,
            files: BTreeMap::new(),
            ended: false,
        }
    }

    /// The files met so far by extension, in lower case; what belongs to no sample has none.
    pub fn files(&self) -> &BTreeMap<String, Files> {
        &self.files
    }

    /// Counts a file. Beyond the most extensions that one sample may have, the others count as none.
    fn count(&mut self, extension: &str, bytes: u64) {
        let known = self.files.contains_key(extension);
        let extension = if known || self.files.len() < MOST_MEMBERS {
            extension
        } else {
            ""
        };
        if !self.files.contains_key(extension) {
            self.files.insert(extension.to_owned(), Files::default());
        }
        if let Some(files) = self.files.get_mut(extension) {
            files.count += 1;
            files.bytes = files.bytes.saturating_add(bytes);
        }
    }

    /// Takes in one more member, or the end.
    fn advance(&mut self) -> Result<(), TarError> {
        let next = match self.next_member.take() {
            None => self.members.advance()?,
            member => member,
        };
        let Some(member) = next else {
            self.end_group();
            if self.ordinal == 0 {
                self.drop_shard(Cause::EmptyShard, "holds no samples");
            }
            self.ended = true;
            return Ok(());
        };
        self.member = member.at;
        if member.path.len() > LONGEST_PATH {
            if self.group.is_some() {
                self.end_group();
                self.next_member = Some(member);
                return Ok(());
            }
            self.count("", member.size);
            let why = format!("has a member with a path of {} bytes", member.path.len());
            self.drop_shard(Cause::UnsafePath, &why);
            return Ok(());
        }
        let Some((key, extension)) = key_and_extension(&member.path) else {
            self.count("", member.size);
            return Ok(());
        };
        let same = self
            .group
            .as_ref()
            .is_some_and(|group| group.key == key && !group.extensions.contains(&extension));
        if !same {
            if self.group.is_some() {
                // The sample is complete before anything of the next one is read but its header.
                self.end_group();
                self.next_member = Some(member);
                return Ok(());
            }
            self.group = Some(Group::new(key, member.at));
        }
        self.count(&extension, member.size);
        let Some(group) = &mut self.group else {
            return Ok(());
        };
        let kind = Kind::of(&extension, &self.wanted);
        group.take_note(extension);
        let Some(kind) = kind.filter(|_| group.refused.is_none()) else {
            return Ok(());
        };
        let limit = match kind {
            Kind::Image(_) => self.limits.max_member_bytes,
            Kind::Caption(_) | Kind::Json => self.limits.max_text_bytes.min(self.limits.max_member_bytes),
        };
        if member.size > limit {
            let Member { path, size, .. } = member;
            let why = format!("has {path} with {size} bytes, the limit is {limit}");
            group.refused = Some((Cause::OversizedMember, why));
            return Ok(());
        }
        let bytes = self.members.read()?;
        match kind {
            Kind::Image(rank) => keep_preferred(&mut group.image, rank, bytes),
            Kind::Caption(rank) => keep_preferred(&mut group.caption, rank, bytes),
            Kind::Json => group.json = Some(bytes),
        }
        Ok(())
    }

    /// The group is complete: turns it into a sample, or into the reason why it is none.
    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            let at = group.at;
            let found = group.finish(&self.shard, &self.wanted);
            self.found(at, found);
        }
    }

    fn found(&mut self, at: u64, found: Found) {
        let ordinal = self.ordinal;
        self.ordinal += 1;
        self.ready.push_back((Place { ordinal, at }, found));
    }

    /// The archive cannot be read further. A sample that is complete already is kept; one that is not was lost with
    /// the shard, which is what is counted.
    fn break_off(&mut self, error: &TarError) {
        self.ended = true;
        if let Some(group) = self.group.take() {
            let at = group.at;
            match group.finish(&self.shard, &self.wanted) {
                sample @ Found::Sample(_) => self.found(at, sample),
                // Read again from here, the shard breaks off again.
                Found::Dropped(_) => self.member = at,
            }
        }
        let cause = match error {
            TarError::Read { source, .. } => cause_of(source, Cause::BrokenShard),
            _ => Cause::BrokenShard,
        };
        self.drop_shard(cause, &error.to_string());
    }

    fn drop_shard(&mut self, cause: Cause, why: &str) {
        let example = format!("{} {why}", self.shard);
        self.found(self.member, Found::Dropped(Dropped::new(cause, &example)));
    }
}

impl<R> fmt::Debug for Samples<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Iterator for Samples<R> {
    type Item = (Place, Found);

    fn next(&mut self) -> Option<(Place, Found)> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.advance() {
                self.break_off(&error);
            }
        }
    }
}

/// What a member is to its sample; the preferred ones have the lowest rank.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Image(usize),
    Caption(usize),
    Json,
}

impl Kind {
    /// By the extension; `None` for what is not read.
    fn of(extension: &str, wanted: &Wanted) -> Option<Self> {
        let rank = |list: &[&str]| list.iter().position(|&known| known == extension);
        if let Some(rank) = rank(&IMAGES) {
            return Some(Kind::Image(rank));
        }
        match extension {
            "json" => wanted.reads_json().then_some(Kind::Json),
            _ if wanted.caption_key.is_some() => None,
            _ => rank(&CAPTIONS).map(Kind::Caption),
        }
    }
}

/// Consecutive members with one key.
#[derive(Debug)]
struct Group {
    /// Where its first member begins.
    at: u64,
    key: String,
    /// In the order of the alphabet.
    extensions: BTreeSet<String>,
    image: Option<(usize, Vec<u8>)>,
    caption: Option<(usize, Vec<u8>)>,
    json: Option<Vec<u8>>,
    /// Why it is no sample, whatever else belongs to it.
    refused: Option<(Cause, String)>,
}

impl Group {
    fn new(key: String, at: u64) -> Self {
        // Nothing is ever written under this path. But who wrote the archive hoped so.
        let refused = key.split('/').any(|part| part == "..").then(|| {
            (
                Cause::UnsafePath,
                "has a path that leads out of the archive".into(),
            )
        });
        Group {
            at,
            key,
            extensions: BTreeSet::new(),
            image: None,
            caption: None,
            json: None,
            refused,
        }
    }

    fn take_note(&mut self, extension: String) {
        self.extensions.insert(extension);
        if self.extensions.len() > MOST_MEMBERS {
            let why = format!("has more than {MOST_MEMBERS} members");
            self.refused = Some((Cause::OversizedMember, why));
        }
    }

    fn finish(self, shard: &Arc<str>, wanted: &Wanted) -> Found {
        let name = format!("{shard}: {}", self.key);
        match self.sample(shard, wanted) {
            Ok(sample) => Found::Sample(sample),
            Err((cause, why)) => Found::Dropped(Dropped::new(cause, &format!("{name} {why}"))),
        }
    }

    fn sample(self, shard: &Arc<str>, wanted: &Wanted) -> Result<Sample, (Cause, String)> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let extensions = self.extensions;
        let found = |cause| {
            let extensions: Vec<String> = extensions.into_iter().collect();
            (cause, format!("(found {})", extensions.join(", ")))
        };
        let Some((_, image)) = self.image else {
            return Err(found(Cause::MissingImage));
        };
        let json = self.json.map(|bytes| Json::parse(&bytes)).transpose();
        let json = json.map_err(|why| (Cause::BadJson, why))?;
        let captions = match (&wanted.caption_key, self.caption) {
            (Some(key), _) => wanted.captions(key, json.as_ref())?,
            (None, None) => return Err(found(Cause::MissingCaption)),
            (None, Some((_, bytes))) => match caption::from_file(bytes) {
                Some(text) => vec![text],
                None => return Err(found(Cause::CaptionNotUtf8)),
            },
        };
        let sample = Sample::new(shard, self.key, image, captions)?;
        wanted.scores(json.as_ref())?;
        Ok(sample)
    }
}

fn keep_preferred(slot: &mut Option<(usize, Vec<u8>)>, rank: usize, bytes: Vec<u8>) {
    if slot.as_ref().is_none_or(|(best, _)| rank < *best) {
        *slot = Some((rank, bytes));
    }
}

/// Splits a path at the first `.` of its file name; the extension becomes lower case. `None` for what belongs to no
/// sample: a file without extension, a hidden file, WebDataset's own `__meta__` entries.
pub(crate) fn key_and_extension(path: &str) -> Option<(String, String)> {
    let first = path.split(['/', '.']).next().unwrap_or(path);
    if first.len() >= 4 && first.starts_with("__") && first.ends_with("__") {
        return None;
    }
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[file..].find('.').filter(|&dot| dot > 0)?;
    let (key, extension) = (&path[..file + dot], &path[file + dot + 1..]);
    Some((key.to_owned(), extension.to_lowercase()))
}
