//! HTTP/1.1 over a unix socket, as much of it as the sidecar's socket and a Docker daemon's ping
//! need: one request a connection, bodies by length, by chunks or to the end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// A whole reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The body as JSON, or as a string where it is none.
    pub(crate) body: Value,
}

impl Reply {
    /// Asserts that the node refused, as what, and in which words.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, kind: &str, words: &str) {
        assert_eq!((self.status, &self.body["kind"]), (status, &json!(kind)), "{self:?}");
        let message = self.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
}

/// A reply that goes on: its body as lines.
pub(crate) struct Stream {
    pub(crate) status: u16,
    body: BufReader<Body>,
}

/// Sends one request and reads the reply to its end.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&Value>,
    bound: Duration,
) -> io::Result<Reply> {
    let mut stream = open(socket, method, target, body, bound)?;
    let mut bytes = Vec::new();
    stream.body.read_to_end(&mut bytes)?;
    Ok(Reply { status: stream.status, body: parse(&bytes) })
}

/// Sends one request and reads no further than the head; each line later waits at most `bound`.
pub(crate) fn open(
    socket: &Path,
    method: &str,
    target: &str,
    body: Option<&Value>,
    bound: Duration,
) -> io::Result<Stream> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(bound))?;
    connection.set_write_timeout(Some(bound))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    write!(
        connection,
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    connection.flush()?;
    let mut reader = BufReader::new(connection);
    let status = status_line(&mut reader)?;
    let shape = headers(&mut reader)?;
    Ok(Stream { status, body: BufReader::new(Body { reader, shape }) })
}

/// JSON where it is JSON, a string otherwise.
pub(crate) fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

impl Stream {
    /// The next line as JSON; `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> io::Result<Option<Value>> {
        let mut line = String::new();
        match self.body.read_line(&mut line)? {
            0 => Ok(None),
            _ => Ok(Some(parse(line.trim_end().as_bytes()))),
        }
    }
}

enum Shape {
    Rest,
    Left(u64),
    Chunk { left: u64, first: bool },
}

struct Body {
    reader: BufReader<UnixStream>,
    shape: Shape,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Shape::Chunk { left: 0, first } = self.shape {
            if !first {
                line(&mut self.reader)?;
            }
            let size = line(&mut self.reader)?;
            let left = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| invalid("a chunk without a size"))?;
            self.shape =
                if left == 0 { Shape::Left(0) } else { Shape::Chunk { left, first: false } };
        }
        match &mut self.shape {
            Shape::Rest => self.reader.read(buffer),
            Shape::Left(left) | Shape::Chunk { left, .. } => {
                let count = (&mut self.reader).take(*left).read(buffer)?;
                *left -= u64::try_from(count).expect("a buffer's length fits 64 bits");
                Ok(count)
            }
        }
    }
}

fn status_line(reader: &mut impl BufRead) -> io::Result<u16> {
    let text = line(reader)?;
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| invalid(&text))
}

fn headers(reader: &mut impl BufRead) -> io::Result<Shape> {
    let mut shape = Shape::Rest;
    loop {
        let text = line(reader)?.to_ascii_lowercase();
        let Some((name, value)) = text.split_once(':') else { return Ok(shape) };
        match (name, value.trim()) {
            ("content-length", length) => {
                shape = Shape::Left(length.parse().map_err(|_| invalid(&text))?);
            }
            ("transfer-encoding", "chunked") => shape = Shape::Chunk { left: 0, first: true },
            _ => {}
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
