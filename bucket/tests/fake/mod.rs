//! A server that answers as it is told, for answers that a good S3 does not give.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

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
