//! What all sources of a loader share: how long to wait and how often to try again, the environment, one HTTP client,
//! the buckets that were opened, the count of what was tried again, and the means to stop everything at once.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Instant;

use tokio::task::AbortHandle;

use super::ahead::{Task, stopped};
use super::store::Bucket;
use super::{http, network};
use crate::config::SourceOptions;
use crate::drops::{Dropped, Drops};
use crate::secrets;

/// The shortest value of a secret variable that is looked for in messages: shorter ones are too likely to stand in
/// innocent words.
const SHORTEST_SECRET: usize = 8;

/// What all sources of a loader share. Clones share it too.
#[derive(Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    options: SourceOptions,
    environment: Environment,
    tasks: Mutex<Tasks>,
    retried: Mutex<Drops>,
    deadline: Mutex<Option<Instant>>,
    /// Whether a reader gave up at the deadline.
    gave_up: AtomicBool,
    client: OnceLock<Result<reqwest::Client, String>>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

/// The tasks that fetch, some of them perhaps ended.
#[derive(Default)]
struct Tasks {
    closed: bool,
    running: Vec<AbortHandle>,
}

impl Access {
    /// With these options, and the environment from which variables, logins and tokens are taken.
    pub fn new(options: SourceOptions, environment: Environment) -> Self {
        Access(Arc::new(Shared {
            options,
            environment,
            tasks: Mutex::default(),
            retried: Mutex::default(),
            deadline: Mutex::default(),
            gave_up: AtomicBool::new(false),
            client: OnceLock::new(),
            buckets: Mutex::default(),
        }))
    }

    /// How long to wait, and how often to try again.
    pub fn options(&self) -> &SourceOptions {
        &self.0.options
    }

    /// The variables of the environment.
    pub fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// What was read again after an error, by cause, since this was asked last.
    pub fn take_retried(&self) -> Drops {
        std::mem::take(&mut *lock(&self.0.retried))
    }

    /// Breaks off everything that is being read: commands are killed, connections closed, and readers that wait get
    /// an error at once. Nothing can be opened from here on.
    pub fn close(&self) {
        let mut tasks = lock(&self.0.tasks);
        tasks.closed = true;
        tasks.running.drain(..).for_each(|task| task.abort());
    }

    /// From here on readers that wait get an error at this moment. For whoever reads in line and waits for samples.
    pub(crate) fn give_up_at(&self, deadline: Option<Instant>) {
        *lock(&self.0.deadline) = deadline;
    }

    /// Whether a reader got one. What it read is not to be counted among what the data hold.
    pub(crate) fn gave_up(&self) -> bool {
        self.0.gave_up.load(Ordering::Relaxed)
    }

    /// Takes note of a reader that gets an error for having waited too long.
    pub(super) fn give_up(&self) {
        self.0.gave_up.store(true, Ordering::Relaxed);
    }

    /// The moment at which readers that wait are to get an error.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *lock(&self.0.deadline)
    }

    /// Hides credentials in `text`: those that look so, and the values of the environment's secret variables.
    pub(crate) fn mask(&self, text: &str) -> String {
        let mut text = secrets::mask(text);
        for secret in self.0.environment.secrets() {
            if text.contains(secret) {
                text = text.replace(secret, secrets::MASK);
            }
        }
        text
    }

    /// Counts something that is tried again.
    pub(super) fn count_retry(&self, retried: Dropped) {
        lock(&self.0.retried).add(retried);
    }

    /// The HTTP client, made by the first who asks.
    pub(super) fn client(&self) -> Result<reqwest::Client, String> {
        let shared = &self.0;
        shared
            .client
            .get_or_init(|| http::client(&shared.options).map_err(|error| error.to_string()))
            .clone()
    }

    /// The bucket that goes by this name, opened by the first who asks.
    ///
    /// # Errors
    /// What `open` says.
    pub(super) fn bucket(
        &self,
        name: &str,
        open: impl FnOnce() -> Result<Bucket, String>,
    ) -> Result<Bucket, String> {
        let mut buckets = lock(&self.0.buckets);
        if let Some(bucket) = buckets.get(name) {
            return Ok(bucket.clone());
        }
        let bucket = open()?;
        buckets.insert(name.to_owned(), bucket.clone());
        Ok(bucket)
    }

    /// Starts a task on the thread of the network.
    ///
    /// # Errors
    /// The system gives no thread, or the access is closed.
    pub(super) fn start(&self, work: impl Future<Output = ()> + Send + 'static) -> io::Result<Task> {
        let network = network::handle()?;
        let mut tasks = lock(&self.0.tasks);
        if tasks.closed {
            return Err(stopped());
        }
        let (alive, gone) = mpsc::channel::<()>();
        let task = network.spawn(async move {
            let _alive = alive;
            work.await;
        });
        let abort = task.abort_handle();
        tasks.running.retain(|task| !task.is_finished());
        tasks.running.push(abort.clone());
        Ok(Task { abort, gone })
    }

    /// Waits for `work`, which runs on the thread of the network. For what is asked once, before anything is read.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answers) = mpsc::channel();
        let task = self.start(async move {
            let _ = answer.send(work.await);
        })?;
        let answer = answers.recv().map_err(|_| stopped());
        drop(task);
        answer
    }
}

impl Default for Access {
    /// With the usual options, and the environment of this process.
    fn default() -> Self {
        Self::new(SourceOptions::default(), Environment::of_process())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// A thread that panicked while it held the lock left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Variables of an environment: those of a process, or others for a test.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process, but for what is not UTF-8.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable that is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Every variable with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// A path is none, whatever its variable is called (PWD, HF_TOKEN_PATH, GOOGLE_APPLICATION_CREDENTIALS): masked, it
    /// would make the names of files unreadable.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let is_place = |value: &str| Path::new(value).is_absolute() && Path::new(value).exists();
        self.iter()
            .filter(|(name, value)| secrets::is_secret_name(name) && value.len() >= SHORTEST_SECRET)
            .map(|(_, value)| value)
            .filter(move |value| !is_place(value))
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Environment(variables.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
