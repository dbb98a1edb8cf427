//! A server on loopback that misbehaves as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// With the query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is asked for.
    pub fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split_once('-')?.0.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// After so many bytes of the body nothing more is sent.
    pub stop: Option<(usize, Stop)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The connection is closed.
    Cut,
    /// It stays open.
    Stall,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Reply {
            status,
            ..Reply::default()
        }
    }

    /// The whole file, or what is asked for of it.
    pub fn file(request: &Request, file: &[u8]) -> Self {
        match request.from() {
            None | Some(0) => Self::whole(file),
            Some(from) if from >= file.len() => Self::status(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
                Reply {
                    status: 206,
                    body: file[from..].to_vec(),
                    ..Reply::default()
                }
                .with("Content-Range", range)
            }
        }
    }

    /// The whole file, whatever is asked for.
    pub fn whole(file: &[u8]) -> Self {
        Reply {
            status: 200,
            body: file.to_vec(),
            ..Reply::default()
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn stopped(mut self, after: usize, stop: Stop) -> Self {
        self.stop = Some((after, stop));
        self
    }
}

/// The server. Dropping it ends it, with every connection that stalls.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    ended: AtomicBool,
    stalled: Mutex<bool>,
    released: Condvar,
}

impl Server {
    /// Answers with what `answer` makes of a request and of its number.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            ended: AtomicBool::new(false),
            stalled: Mutex::new(true),
            released: Condvar::new(),
        });
        let answer = Arc::new(answer);
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if own.ended.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, answer) = (Arc::clone(&own), Arc::clone(&answer));
                connections.push(thread::spawn(move || {
                    // A client that goes away is no concern of the server's.
                    let _ = serve(stream.unwrap(), &shared, &*answer);
                }));
            }
            connections
                .into_iter()
                .for_each(|connection| connection.join().unwrap());
        });
        Server {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// `http://` and where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same with something before the host.
    pub fn url_as(&self, user: &str) -> String {
        format!("http://{user}@{}", self.address)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        *self.shared.stalled.lock().unwrap() = false;
        self.shared.released.notify_all();
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    stream: TcpStream,
    shared: &Shared,
    answer: &dyn Fn(usize, &Request) -> Reply,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let Some(path) = first.split(' ').nth(1).map(str::to_owned) else {
        return Ok(());
    };
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = Request { path, headers };
    let number = {
        let mut requests = shared.requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    };
    let reply = answer(number, &request);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} Words\r\nConnection: close\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "Content-Length: {}\r\n\r\n", reply.body.len())?;
    match reply.stop {
        None => stream.write_all(&reply.body),
        Some((after, stop)) => {
            stream.write_all(&reply.body[..after.min(reply.body.len())])?;
            stream.flush()?;
            if stop == Stop::Stall {
                let stalled = shared.stalled.lock().unwrap();
                let _free = shared.released.wait_while(stalled, |stalled| *stalled).unwrap();
            }
            Ok(())
        }
    }
}
