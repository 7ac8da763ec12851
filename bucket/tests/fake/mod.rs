//! A server that answers as it is told, for answers that a good S3 does not give.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a request was.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The condition's header and value, if it has one.
    pub(crate) condition: Option<(String, String)>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    /// An empty answer with this status and etag.
    Status(u16, &'static str),
    /// Close the connection without an answer.
    HangUp,
}

/// Starts a server on a thread that ends with the process; returns its address.
pub(crate) fn serve(answer: impl Fn(&Request) -> Reply + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away in mid request is a part of what is tested.
            let _ = handle(stream.unwrap(), &answer);
        }
    });
    endpoint
}

fn handle(mut stream: TcpStream, answer: &impl Fn(&Request) -> Reply) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let mut request = Request { method, condition: None };
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            name @ ("if-match" | "if-none-match") => {
                request.condition = Some((name.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    match answer(&request) {
        Reply::HangUp => Ok(()),
        Reply::Status(status, etag) => write!(
            stream,
            "HTTP/1.1 {status} X\r\netag: \"{etag}\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ),
    }
}

/// What a store that keeps objects does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// After this many writes, reads show the version before the last.
    OldRead(u64),
    /// Reads show the last version's tag and the content before it.
    OldContent,
    /// Listings do not show what was just written.
    OldListing,
    /// Listings show what was just written, with another size.
    OldSize,
    /// A range is answered with the whole object.
    WholeForRange,
    /// Two creates of one object succeed: the first, and one that comes this late.
    TwoWinners(u32),
    /// The create that succeeds is not the one that is told so.
    OtherWinner,
    /// No lie: the create that succeeds is told nothing.
    MuteWinner,
    /// No swap succeeds.
    RefusesSwaps,
}

/// Starts a store that keeps objects, one version each, and tells this lie.
pub(crate) fn lying(lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let store = Arc::new(Mutex::new(Kept {
        lie,
        versions: 0,
        objects: BTreeMap::new(),
        creates: BTreeMap::new(),
    }));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, store) = (stream.unwrap(), Arc::clone(&store));
            std::thread::spawn(move || drop(keep(stream, &store)));
        }
    });
    endpoint
}

struct Kept {
    lie: Lie,
    versions: u64,
    objects: BTreeMap<String, Versions>,
    /// How many creates of each key were tried.
    creates: BTreeMap<String, u32>,
}

/// A version and its content.
type Version = (u64, Vec<u8>);

#[derive(Clone)]
struct Versions {
    last: Version,
    before: Option<Version>,
}

fn keep(mut stream: TcpStream, store: &Mutex<Kept>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, etag, body) = store.lock().unwrap().answer(&method, &target, &headers, body);
    write!(
        stream,
        "HTTP/1.1 {status} X\r\netag: \"{etag}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

impl Kept {
    fn answer(
        &mut self,
        method: &str,
        target: &str,
        headers: &BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> (u16, u64, Vec<u8>) {
        let path = target.split('?').next().unwrap_or_default();
        let key = path.trim_start_matches("/fake").trim_matches('/').to_owned();
        if method == "GET" && key.is_empty() {
            return (200, 0, self.listing());
        }
        let present = self.objects.get(&key).cloned();
        match (method, present) {
            ("GET", Some(Versions { last: (version, content), before })) => {
                match (headers.get("range"), self.lie, before) {
                    (None, Lie::OldRead(from), Some(before)) if self.versions >= from => {
                        (200, before.0, before.1)
                    }
                    (None, Lie::OldContent, Some((_, content))) => (200, version, content),
                    (None, _, _) | (Some(_), Lie::WholeForRange, _) => (200, version, content),
                    (Some(range), _, _) => {
                        let range = range.trim_start_matches("bytes=");
                        let (from, to) = range.split_once('-').unwrap();
                        let range = from.parse().unwrap()..=to.parse::<usize>().unwrap();
                        (206, version, content[range].to_vec())
                    }
                }
            }
            ("GET", None) => (404, 0, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            ("DELETE", _) => {
                self.objects.remove(&key);
                (204, 0, Vec::new())
            }
            (_, present) => self.put(key, present, headers, body),
        }
    }

    fn put(
        &mut self,
        key: String,
        present: Option<Versions>,
        headers: &BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> (u16, u64, Vec<u8>) {
        let race = key.contains("race-");
        let version = present.as_ref().map(|present| format!("\"{}\"", present.last.0));
        let allowed = match (headers.get("if-none-match"), headers.get("if-match")) {
            (Some(_), _) => {
                let tries = self.creates.entry(key.clone()).or_default();
                *tries += 1;
                version.is_none() || race && self.lie == Lie::TwoWinners(*tries)
            }
            (None, Some(wanted)) => {
                self.lie != Lie::RefusesSwaps && version.as_ref() == Some(wanted)
            }
            (None, None) => true,
        };
        let other = race && self.lie == Lie::OtherWinner && version.is_some();
        if !allowed && !other {
            return (412, 0, Vec::new());
        }
        self.versions += 1;
        let before = present.map(|present| present.last);
        self.objects.insert(key, Versions { last: (self.versions, body), before });
        if other {
            (412, 0, Vec::new())
        } else if race && self.lie == Lie::MuteWinner {
            (500, 0, Vec::new())
        } else {
            (200, self.versions, Vec::new())
        }
    }

    fn listing(&self) -> Vec<u8> {
        let objects = self.objects.iter().filter(|_| self.lie != Lie::OldListing);
        let contents: String = objects
            .map(|(key, Versions { last: (_, content), .. })| {
                let size = content.len() + usize::from(self.lie == Lie::OldSize);
                format!(
                    "<Contents><Key>{key}</Key><Size>{size}</Size>\
                     <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>\
             {contents}</ListBucketResult>"
        )
        .into_bytes()
    }
}
