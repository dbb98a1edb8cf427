//! Members of an archive to samples: consecutive files with one key. Pictures stay encoded here.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use crate::drops::{Cause, Dropped};
use crate::place::Place;
use crate::tar::{Member, Members, TarError};

/// Extensions of pictures, the preferred one first.
const IMAGES: [&str; 4] = ["jpg", "png", "jpeg", "webp"];

/// Extensions of captions, the preferred one first.
const CAPTIONS: [&str; 3] = ["text", "txt", "caption"];

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
    /// The captions, one of which is drawn whenever the sample is delivered. A shard has one a picture.
    pub captions: Vec<String>,
}

impl Sample {
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
    max_member_bytes: u64,
    group: Option<Group>,
    ready: VecDeque<(Place, Found)>,
    /// Number of the next find.
    ordinal: u64,
    /// Where the last member begins.
    member: u64,
    /// The first member of a group that has not been begun.
    next_member: Option<Member>,
    ended: bool,
}

impl<R: Read> Samples<R> {
    /// The samples of the archive that `reader` yields; `shard` is its name.
    pub fn new(shard: Arc<str>, reader: R, max_member_bytes: u64) -> Self {
        Self::starting_at(Place::START, shard, reader, max_member_bytes)
    }

    /// The samples from the place `from` on, where `reader` stands.
    pub fn starting_at(from: Place, shard: Arc<str>, reader: R, max_member_bytes: u64) -> Self {
        Samples {
            shard,
            members: Members::starting_at(from.at, reader),
            max_member_bytes,
            group: None,
            ready: VecDeque::new(),
            ordinal: from.ordinal,
            member: from.at,
            next_member: None,
            ended: false,
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
        let Some((key, extension)) = key_and_extension(&member.path) else {
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
        let image = IMAGES.iter().position(|&known| known == extension);
        let caption = CAPTIONS.iter().position(|&known| known == extension);
        let Some(group) = &mut self.group else {
            return Ok(());
        };
        group.extensions.push(extension);
        if image.is_none() && caption.is_none() {
            return Ok(());
        }
        if member.size > self.max_member_bytes {
            let limit = self.max_member_bytes;
            group.oversized = Some(format!(
                "{} has {} bytes, the limit is {limit}",
                member.path, member.size
            ));
            return Ok(());
        }
        let bytes = self.members.read()?;
        if let Some(rank) = image {
            keep_preferred(&mut group.image, rank, bytes);
        } else if let Some(rank) = caption {
            keep_preferred(&mut group.caption, rank, bytes);
        }
        Ok(())
    }

    /// The group is complete: turns it into a sample, or into the reason why it is none.
    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            let at = group.at;
            let found = group.finish(&self.shard);
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
            match group.finish(&self.shard) {
                sample @ Found::Sample(_) => self.found(at, sample),
                // Read again from here, the shard breaks off again.
                Found::Dropped(_) => self.member = at,
            }
        }
        self.drop_shard(Cause::BrokenShard, &error.to_string());
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

/// Consecutive members with one key.
#[derive(Debug)]
struct Group {
    /// Where its first member begins.
    at: u64,
    key: String,
    extensions: Vec<String>,
    image: Option<(usize, Vec<u8>)>,
    caption: Option<(usize, Vec<u8>)>,
    oversized: Option<String>,
}

impl Group {
    fn new(key: String, at: u64) -> Self {
        Group {
            at,
            key,
            extensions: Vec::new(),
            image: None,
            caption: None,
            oversized: None,
        }
    }

    fn finish(self, shard: &Arc<str>) -> Found {
        let key = self.key;
        let extensions = self.extensions;
        let dropped =
            |cause, why: &str| Found::Dropped(Dropped::new(cause, &format!("{shard}: {key} {why}")));
        let found = || format!("(found {})", extensions.join(", "));
        if let Some(why) = self.oversized {
            return dropped(Cause::OversizedMember, &why);
        }
        let Some((_, image)) = self.image else {
            return dropped(Cause::MissingImage, &found());
        };
        let Some((_, caption)) = self.caption else {
            return dropped(Cause::MissingCaption, &found());
        };
        let Ok(caption) = String::from_utf8(caption) else {
            return dropped(Cause::CaptionNotUtf8, &found());
        };
        let shard = Arc::clone(shard);
        Found::Sample(Sample {
            shard,
            key,
            image,
            captions: vec![caption],
        })
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
