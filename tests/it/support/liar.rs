//! A Litestream whose socket answers wrongly: the real one listens elsewhere, and the test answers
//! in its place, or passes on what it is asked.
//!
//! The program that the sidecar starts changes the socket in the config and becomes the real
//! Litestream, so that its pid, version and uploads are real, and its restarts, too.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::machine::Machine;
use super::{scratch, tools};

/// What `/sync` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// What Litestream answers.
    None,
    NotFound,
    Conflict,
    Garbage,
    /// A transaction from long ago.
    Back,
    /// Nothing is in the bucket.
    Zero,
}

/// The switch.
#[derive(Debug, Clone)]
pub(crate) struct Liar {
    lie: Arc<Mutex<Lie>>,
}

impl Liar {
    /// Puts itself before the machine's Litestream, which must not have been started yet.
    pub(crate) fn before(vm: &mut Machine) -> Liar {
        let path = |suffix: &str| PathBuf::from(format!("{}.{suffix}", vm.db().display()));
        let (socket, real) = (path("ls.sock"), path("ls.real"));
        let program = program(&socket, &real);
        vm.set_env("TIDEMILL_LITESTREAM", program.to_str().expect("a test path in UTF-8"));
        let liar = Liar { lie: Arc::new(Mutex::new(Lie::None)) };
        let listener = UnixListener::bind(&socket).expect("listen in litestream's place");
        let shared = liar.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { return };
                let (shared, real) = (shared.clone(), real.clone());
                std::thread::spawn(move || {
                    // A caller or a Litestream that goes away in between is the sidecar's matter.
                    let _ = shared.answer(&connection, &real);
                });
            }
        });
        liar
    }

    pub(crate) fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    fn answer(&self, mut caller: &UnixStream, real: &Path) -> std::io::Result<()> {
        let request = read_request(caller)?;
        let lie = *self.lie.lock().unwrap_or_else(PoisonError::into_inner);
        if request.starts_with(b"POST /sync ")
            && let Some((status, body)) = lie.text()
        {
            let length = body.len();
            return write!(
                caller,
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
        let mut litestream = UnixStream::connect(real)?;
        litestream.write_all(&request)?;
        std::io::copy(&mut litestream, &mut caller)?;
        Ok(())
    }
}

impl Lie {
    fn text(self) -> Option<(u16, &'static str)> {
        let synced = |body| Some((200, body));
        match self {
            Lie::None => None,
            Lie::NotFound => Some((404, r#"{"error":"database not found: elsewhere"}"#)),
            Lie::Conflict => Some((409, r#"{"error":"database not open: elsewhere"}"#)),
            Lie::Garbage => synced("<html>welcome</html>"),
            Lie::Back => synced(r#"{"status":"synced","path":"p","txid":1,"replicated_txid":1}"#),
            Lie::Zero => synced(r#"{"status":"synced","path":"p","txid":900,"replicated_txid":0}"#),
        }
    }
}

/// A whole request, with its body.
fn read_request(caller: &UnixStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(caller);
    let (mut request, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        request.extend_from_slice(line.as_bytes());
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.extend(body);
    Ok(request)
}

/// `litestream` with another socket in its config.
fn program(socket: &Path, real: &Path) -> PathBuf {
    let program = scratch::folder("liar").join("litestream");
    let litestream = tools::litestream().display();
    let (socket, real) = (socket.display(), real.display());
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" != replicate ]; then exec {litestream} \"$@\"; fi\n\
         sed 's#{socket}#{real}#' \"$3\" > \"$3.real\"\n\
         exec {litestream} replicate -config \"$3.real\"\n"
    );
    std::fs::write(&program, script).expect("write a script");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))
        .expect("make it a program");
    program
}
