//! The one thread that waits for everything that comes over a network or out of a pipe. It knows no places.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

/// The thread's entrance; the thread is started by the first who asks, and lasts as long as the program.
///
/// # Errors
/// The system gives no thread.
pub(super) fn handle() -> io::Result<Handle> {
    static STARTED: OnceLock<Result<Handle, String>> = OnceLock::new();
    STARTED
        .get_or_init(|| start().map_err(|error| error.to_string()))
        .clone()
        .map_err(|why| io::Error::other(format!("the thread data-net cannot be started: {why}")))
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("data-net".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
