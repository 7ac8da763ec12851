//! A relay in front of the S3 server, so that one machine can be cut off from it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bucket::Bucket;
use super::wait;

/// What the relay does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// It passes everything on.
    Good,
    /// It ends every connection.
    Cut,
    /// It keeps every connection and passes nothing on: a network that swallows packets.
    Silent,
    /// It passes everything on but requests with this method for what Litestream ships: those wait,
    /// as on a line that is slow with what is large.
    Holding(&'static str),
}

/// A relay; its threads end with the process.
pub(crate) struct Proxy {
    port: u16,
    line: Arc<Mutex<Line>>,
    requests: Arc<AtomicUsize>,
}

impl Proxy {
    /// A relay to the bucket's server, which has to be reached without TLS.
    #[track_caller]
    pub(crate) fn new(bucket: &Bucket) -> Self {
        let endpoint = &bucket.server().endpoint;
        let server = endpoint.strip_prefix("http://").expect("a server without TLS");
        let server = server.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("it is bound").port();
        let line = Arc::new(Mutex::new(Line::Good));
        let requests = Arc::new(AtomicUsize::new(0));
        let (shared, counted) = (Arc::clone(&line), Arc::clone(&requests));
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                if let Ok(server) = TcpStream::connect(&server) {
                    relay((&shared, &counted), &client, &server);
                }
            }
        });
        Self { port, line, requests }
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// What a machine is given as its endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, line: Line) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

/// Passes bytes both ways, each on a thread of its own, until one side ends or the line is cut.
fn relay(
    (line, requests): (&Arc<Mutex<Line>>, &Arc<AtomicUsize>),
    client: &TcpStream,
    server: &TcpStream,
) {
    for (from, to, counted) in [(client, server, Some(requests)), (server, client, None)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let (line, counted) = (Arc::clone(line), counted.cloned());
        std::thread::spawn(move || {
            pass_on((&line, counted.as_deref()), &from, &to);
            // Gone already is as good as ended.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Whether what was read has to wait. A request's line comes first in what is read: nobody sends
/// the next request before the answer to the last.
fn is_held(line: Line, read: &[u8]) -> bool {
    match line {
        Line::Good | Line::Cut => false,
        Line::Silent => true,
        Line::Holding(method) => {
            let first = read.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let first = String::from_utf8_lossy(first);
            // What a listing asks for stands in its query, also where it begins: after some object.
            let path = first.split('?').next().unwrap_or_default();
            first.starts_with(method) && path.contains(".ltx")
        }
    }
}

/// Whether a request begins with what was read: nobody sends the next one before the answer.
fn begins_request(read: &[u8]) -> bool {
    ["GET /", "HEAD /", "PUT /", "POST /", "DELETE /"]
        .iter()
        .any(|it| read.starts_with(it.as_bytes()))
}

fn pass_on(
    (line, requests): (&Mutex<Line>, Option<&AtomicUsize>),
    mut from: &TcpStream,
    mut to: &TcpStream,
) {
    let state = || *line.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = vec![0; 64 * 1024];
    // A connection on which nothing moves has to notice a cut, too.
    if from.set_read_timeout(Some(Duration::from_millis(50))).is_err() {
        return;
    }
    loop {
        match state() {
            Line::Good | Line::Holding(_) => {}
            Line::Cut => return,
            Line::Silent => {
                wait::pause(Duration::from_millis(10));
                continue;
            }
        }
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if let Some(requests) = requests.filter(|_| begins_request(&buffer[..count])) {
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                while is_held(state(), &buffer[..count]) {
                    wait::pause(Duration::from_millis(10));
                }
                if state() == Line::Cut || to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
