//! The cache as a whole: a folder of files, an index of them in memory, and entries that wait to be written.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};

use super::file::{self, CacheFile, Extent, HEADER_BYTES, UNFINISHED, Unusable};
use super::{Blob, CacheError, Dtype, Key, Note};

/// Entries are gathered until they have so many bytes, or wait for so long; then a file is written. A kill loses no
/// more.
const FILE_BYTES: u64 = 64 << 20;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An unfinished file of this age is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What a disk is left with in any case.
const RESERVE: u64 = 2 << 30;

/// What the names of files begin and end with. Others in the folder are not looked at.
const PREFIX: &str = "fewstep-cache-";
const SUFFIX: &str = ".safetensors";

/// A cache, shared by those who look up and those who fill it. Several runs may fill one folder at once; each sees
/// what was there when it began and what it adds itself. It never fails: what cannot be read is not there, and what
/// cannot be written is let go; [`Store::notes`] tell.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    max_bytes: Option<u64>,
    state: RwLock<State>,
    /// Held while a file is written, so that files are numbered one after another.
    writing: Mutex<u64>,
}

#[derive(Debug)]
struct State {
    index: HashMap<Key, Place>,
    files: Vec<CacheFile>,
    /// The few dtypes and shapes that there are.
    forms: Vec<(Dtype, Vec<usize>)>,
    waiting: HashMap<Key, Arc<Blob>>,
    waiting_bytes: u64,
    /// Since when something waits, at the longest.
    written: Instant,
    /// Of all files.
    bytes: u64,
    notes: Vec<Note>,
    /// Nothing is added any more.
    closed: bool,
}

/// Where an entry is. Small, for there may be millions.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: u32,
    form: u32,
    extent: Extent,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: usize,
    /// Bytes, on disk and waiting.
    pub bytes: u64,
}

impl Store {
    /// Opens the cache in `folder`, or begins one. It grows to at most `max_bytes`, and never fills the disk. A damaged
    /// file of it is removed.
    ///
    /// # Errors
    /// A folder that can be neither read nor made.
    pub fn open(folder: &Path, max_bytes: Option<u64>) -> Result<Self, CacheError> {
        let failed = |problem| {
            move |source| CacheError {
                path: folder.to_owned(),
                problem,
                source,
            }
        };
        fs::create_dir_all(folder).map_err(failed("cannot be made"))?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed("cannot be read"))? {
            let path = entry.map_err(failed("cannot be read"))?.path();
            if is_abandoned(&path) {
                // Another run may have removed it just now.
                let _ = fs::remove_file(&path);
            } else if is_ours(&path) {
                paths.push(path);
            }
        }
        // By age: what was made anew counts.
        paths.sort();
        let mut state = State::new();
        for path in &paths {
            state.take_in(path);
        }
        Ok(Store {
            folder: folder.to_owned(),
            max_bytes,
            state: RwLock::new(state),
            writing: Mutex::new(0),
        })
    }

    /// Whether there is an entry of this key.
    pub fn holds(&self, key: Key) -> bool {
        self.state().holds(key)
    }

    /// The entry of this key, if there is one that is whole.
    pub fn get(&self, key: Key) -> Option<Arc<Blob>> {
        let (file, reason) = {
            let state = self.state();
            if let Some(blob) = state.waiting.get(&key) {
                return Some(Arc::clone(blob));
            }
            let place = *state.index.get(&key)?;
            let (dtype, shape) = state.forms.get(place.form as usize)?;
            let file = state.files.get(place.file as usize)?;
            match file.read(place.extent) {
                Ok(bytes) => {
                    return Some(Arc::new(Blob {
                        dtype: *dtype,
                        shape: shape.clone(),
                        bytes,
                    }));
                }
                Err(reason) => (place.file, reason),
            }
        };
        self.state_mut().forget(key, file, reason);
        None
    }

    /// Adds an entry, or leaves the one that is there.
    pub fn put(&self, key: Key, blob: Blob) {
        let due = {
            let mut state = self.state_mut();
            if state.closed || state.holds(key) {
                return;
            }
            let more = blob.bytes.len() as u64 + HEADER_BYTES;
            if let Some(max_bytes) = self.max_bytes
                && state.bytes + state.waiting_bytes + more > max_bytes
            {
                return state.close(Note::Full {
                    folder: self.folder.clone(),
                    max_bytes,
                });
            }
            if state.waiting.is_empty() {
                state.written = Instant::now();
            }
            state.waiting_bytes += more;
            state.waiting.insert(key, Arc::new(blob));
            state.waiting_bytes >= FILE_BYTES || state.written.elapsed() >= LONGEST_WAIT
        };
        if due {
            self.flush();
        }
    }

    /// Writes what waits. Entries for which there is no room are let go.
    pub fn flush(&self) {
        let mut count = self.lock_writing();
        // They wait on, so that nobody misses an entry while it is written.
        let (waiting, bytes) = {
            let state = self.state();
            (state.waiting.clone(), state.waiting_bytes)
        };
        if waiting.is_empty() {
            return;
        }
        let written = self.write(&waiting, bytes, &mut count);
        let mut state = self.state_mut();
        match written {
            Ok(path) => state.take_in(&path),
            Err(note) => state.close(note),
        }
        for key in waiting.keys() {
            state.waiting.remove(key);
        }
        let rest = state.waiting.values();
        state.waiting_bytes = rest.map(|blob| blob.bytes.len() as u64 + HEADER_BYTES).sum();
    }

    fn write(&self, entries: &HashMap<Key, Arc<Blob>>, bytes: u64, count: &mut u64) -> Result<PathBuf, Note> {
        let not_writable = |reason: String| Note::NotWritable {
            folder: self.folder.clone(),
            reason,
        };
        // Others may have filled the folder meanwhile.
        if let Some(max_bytes) = self.max_bytes
            && self
                .bytes_on_disk()
                .map_err(|error| not_writable(error.to_string()))?
                + bytes
                > max_bytes
        {
            return Err(Note::Full {
                folder: self.folder.clone(),
                max_bytes,
            });
        }
        if let Some(free) = available(&self.folder)
            && free < bytes + RESERVE
        {
            let free = free as f64 / 1e9;
            return Err(not_writable(format!("the disk has {free:.1} GB left")));
        }
        loop {
            let path = self.new_file(count);
            match file::write(&path, entries) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(not_writable(error.to_string())),
            }
        }
    }

    /// What it holds now.
    pub fn usage(&self) -> Usage {
        let state = self.state();
        Usage {
            entries: state.index.len() + state.waiting.len(),
            bytes: state.bytes + state.waiting_bytes,
        }
    }

    /// Whether nothing is added any more, since there is no room or nothing can be written.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// What it met with since it was asked last.
    pub fn notes(&self) -> Vec<Note> {
        if self.state().notes.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.state_mut().notes)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The most bytes that it may grow by: what was asked for, and what the disk has room for.
    pub fn room(&self) -> Option<u64> {
        let used = self.usage().bytes;
        let asked = self.max_bytes.map(|max| max.saturating_sub(used));
        let free = available(&self.folder).map(|free| free.saturating_sub(RESERVE));
        match (asked, free) {
            (Some(asked), Some(free)) => Some(asked.min(free)),
            (asked, free) => asked.or(free),
        }
    }

    fn bytes_on_disk(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if is_ours(&entry.path()) {
                // One that another run removes just now has none.
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }

    /// A name that no other run uses.
    fn new_file(&self, count: &mut u64) -> PathBuf {
        *count += 1;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = since.unwrap_or_default().as_millis();
        let name = format!("{PREFIX}{time:013}-{}-{count}{SUFFIX}", std::process::id());
        self.folder.join(name)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writing(&self) -> MutexGuard<'_, u64> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.flush();
    }
}

impl State {
    fn new() -> Self {
        State {
            index: HashMap::new(),
            files: Vec::new(),
            forms: Vec::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            written: Instant::now(),
            bytes: 0,
            notes: Vec::new(),
            closed: false,
        }
    }

    fn holds(&self, key: Key) -> bool {
        self.index.contains_key(&key) || self.waiting.contains_key(&key)
    }

    /// Nothing is added from now on, for this reason.
    fn close(&mut self, note: Note) {
        if !self.closed {
            self.closed = true;
            self.notes.push(note);
        }
    }

    /// An entry of `file` is not what was written. The file is named once.
    fn forget(&mut self, key: Key, file: u32, reason: String) {
        self.index.remove(&key);
        if let Some(file) = self.files.get(file as usize) {
            self.damaged(&file.path.clone(), reason);
        }
    }

    fn damaged(&mut self, path: &Path, reason: String) {
        let named = |note: &Note| matches!(note, Note::Damaged { path: named, .. } if named == path);
        if !self.notes.iter().any(named) {
            self.notes.push(Note::Damaged {
                path: path.to_owned(),
                reason,
            });
        }
    }

    /// Takes in a file, or takes note that it cannot be used.
    fn take_in(&mut self, path: &Path) {
        match CacheFile::open(path) {
            Ok((file, listed)) => {
                let number = self.files.len() as u32;
                self.bytes += file.length;
                for entry in listed {
                    let form = self.form(entry.dtype, entry.shape);
                    let place = Place {
                        file: number,
                        form,
                        extent: entry.extent,
                    };
                    self.index.insert(entry.key, place);
                }
                self.files.push(file);
            }
            Err(Unusable::Damaged(reason)) => {
                self.damaged(path, reason);
                // It is of no use to anybody; where it cannot be removed it is named again the next time.
                let _ = fs::remove_file(path);
            }
            Err(Unusable::Unreadable(error)) => self.damaged(path, error.to_string()),
        }
    }

    fn form(&mut self, dtype: Dtype, shape: Vec<usize>) -> u32 {
        let form = (dtype, shape);
        let place = self.forms.iter().position(|known| *known == form);
        place.unwrap_or_else(|| {
            self.forms.push(form);
            self.forms.len() - 1
        }) as u32
    }
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// A file that was being written when its run was killed.
fn is_abandoned(path: &Path) -> bool {
    let unfinished = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
    let age = || path.metadata().ok()?.modified().ok()?.elapsed().ok();
    unfinished && age().is_some_and(|age| age > ABANDONED)
}

/// Bytes that the disk of `folder` still has for us.
fn available(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
