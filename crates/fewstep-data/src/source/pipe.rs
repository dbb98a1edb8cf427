//! Shards that a command writes to its standard output.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::failure::{Failure, Trouble};
use super::transfer::{Body, Chunks, Fetch, Identity};
use crate::config::SourceOptions;

/// How often a command is run again at most: most have retries of their own, and nobody can tell whether one that fails
/// would fail again.
const MOST_RETRIES: u32 = 2;

/// What is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What is kept of what a command says on standard error: its last lines.
const SAID_LINES: usize = 3;
const SAID_BYTES: usize = 1024;

/// A command, run by the shell.
pub(super) struct Pipe {
    command: String,
}

impl Pipe {
    /// The output of `command`, which /bin/sh is given.
    pub(super) fn new(command: &str) -> Self {
        Pipe {
            command: command.to_owned(),
        }
    }
}

#[async_trait]
impl Fetch for Pipe {
    async fn get(&self, _at: u64, _known: &Identity) -> Result<Body, Failure> {
        let running = Running::start(&self.command)
            .map_err(|error| Failure::passing(Trouble::Command, format!("cannot be started: {error}")))?;
        Ok(Body {
            start: 0,
            identity: Identity::default(),
            chunks: Box::new(running),
        })
    }

    fn seeks(&self) -> bool {
        false
    }

    fn retries(&self, options: &SourceOptions) -> u32 {
        options.retries.min(MOST_RETRIES)
    }

    fn waits(&self) -> bool {
        true
    }
}

/// A command that runs. Dropping it kills it, with all that it started.
struct Running {
    child: Child,
    status: Option<ExitStatus>,
    output: Receiver,
    said: Arc<Mutex<Said>>,
    listener: JoinHandle<()>,
}

impl Running {
    fn start(command: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that all of a pipeline can be killed.
            .process_group(0)
            .spawn()?;
        let ends = child.stdout.take().zip(child.stderr.take());
        let said = Arc::new(Mutex::new(Said::default()));
        let mut guard = Unwatched(Some(child));
        let (output, errors) = ends.ok_or_else(|| io::Error::other("it has no output"))?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        let errors = Receiver::from_owned_fd(OwnedFd::from(errors))?;
        let child = guard.0.take().ok_or_else(|| io::Error::other("it is gone"))?;
        Ok(Running {
            child,
            status: None,
            output,
            listener: tokio::spawn(listen(errors, Arc::clone(&said))),
            said,
        })
    }

    /// Waits for the command to end, which it should once its output has.
    async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let mut pause = Duration::from_millis(1);
        loop {
            let status = self.child.try_wait().map_err(|error| {
                Failure::passing(Trouble::Command, format!("cannot be waited for: {error}"))
            })?;
            if let Some(status) = status {
                self.status = Some(status);
                return Ok(status);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// What it said last, once it said all, or nearly so: a command that it left running may hold on to the other end.
    async fn said(&mut self) -> String {
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.listener).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.text()
    }
}

#[async_trait]
impl Chunks for Running {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let failed = |error| Failure::passing(Trouble::Command, format!("cannot be read: {error}"));
        let chunk = read(&self.output).await.map_err(failed)?;
        if !chunk.is_empty() {
            return Ok(Some(chunk));
        }
        let status = self.ended().await?;
        if status.success() {
            return Ok(None);
        }
        let how = how_it_ended(status);
        let said = self.said().await;
        let what = format!("{how}{said}");
        Err(match status.code() {
            // The shell's own words: a command that cannot be run, or is not there.
            Some(126 | 127) => Failure::unreadable(what),
            _ => Failure::passing(Trouble::Command, what),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
        // The number of a command that has ended, and was waited for, may be another's already.
        if self.status.is_none() {
            kill(&mut self.child);
        }
    }
}

/// A command that nobody watches yet; dropping it kills it.
struct Unwatched(Option<Child>);

impl Drop for Unwatched {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            kill(child);
        }
    }
}

/// Kills the command and all of its group.
fn kill(child: &mut Child) {
    // Either fails only where nothing is left to be killed.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

/// The next bytes of a pipe; none at its end.
async fn read(pipe: &Receiver) -> io::Result<Bytes> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        pipe.readable().await?;
        match pipe.try_read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer.into());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended badly".to_owned(),
    }
}

/// Takes in all that a command says, so that it is never held up by it.
async fn listen(errors: Receiver, said: Arc<Mutex<Said>>) {
    while let Ok(bytes) = read(&errors).await
        && !bytes.is_empty()
    {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.add(&bytes);
    }
}

/// The last that a command said on standard error.
#[derive(Default)]
struct Said(VecDeque<u8>);

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let spare = self.0.len().saturating_sub(SAID_BYTES);
        self.0.drain(..spare);
    }

    /// Its last lines, as the end of a sentence.
    fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        // A progress bar comes back to the beginning of its line again and again.
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim_end().rsplit('\r').next().map(str::trim))
            .filter(|line| !line.is_empty())
            .collect();
        match lines.len().saturating_sub(SAID_LINES) {
            _ if lines.is_empty() => " and said nothing".to_owned(),
            first => format!(": {}", lines[first..].join(" / ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut said = Said::default();
        assert_eq!(said.text(), " and said nothing");
        said.add(b"one\ntwo\n\n 10 %\r 20 %\r\nthree\n");
        said.add(b"four");
        assert_eq!(said.text(), ": 20 % / three / four");
        said.add(&[b'x'; 5000]);
        assert_eq!(said.0.len(), SAID_BYTES);
    }
}
