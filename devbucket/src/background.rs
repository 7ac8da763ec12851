//! A server on a thread of its own, for programs and tests that are not async.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::server::{Keys, Server};
use crate::store::Store;

/// A server that listens on a free port of loopback. It ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the server; when this returns, it answers.
    ///
    /// # Errors
    /// If no port is free or the thread cannot be started.
    pub fn start(store: Store, keys: Keys) -> io::Result<Background> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        // On its own thread from the first moment: the caller may be a task of another runtime.
        let serve = move || {
            let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let started = started.and_then(|runtime| {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let server = runtime.block_on(Server::bind(address, store, keys))?;
                Ok((runtime, server))
            });
            match started {
                Err(error) => drop(tell.send(Err(error))),
                Ok((runtime, server)) => {
                    drop(tell.send(Ok(server.address())));
                    // An error means that the handle is gone, which ends the server, too.
                    runtime.block_on(server.run(async { drop(stopped.await) }));
                }
            }
        };
        let thread = std::thread::Builder::new().name("bucket".to_owned()).spawn(serve)?;
        let address = told.recv().map_err(io::Error::other)??;
        Ok(Background { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Its endpoint, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If the server panicked, that was printed when it happened.
            let _panicked = thread.join();
        }
    }
}
