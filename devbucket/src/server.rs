//! The HTTP server.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};

use crate::api::Api;
use crate::store::Store;

/// How long requests in flight may take when the server ends.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The one pair of keys that the server takes. It may do everything.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID` of the clients.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY` of the clients.
    pub secret_key: String,
}

impl Keys {
    /// `tidemill` and `tidemill-dev`: no secret, for a server that only this machine reaches.
    pub fn development() -> Keys {
        Keys { access_key: "tidemill".to_owned(), secret_key: "tidemill-dev".to_owned() }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key != self.access_key {
            return Err(s3_error!(InvalidAccessKeyId, "there is no access key of this name"));
        }
        Ok(SecretKey::from(self.secret_key.clone()))
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    store: Store,
    keys: Keys,
}

impl Server {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address is taken or is not this machine's.
    pub async fn bind(address: SocketAddr, store: Store, keys: Keys) -> io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Server { listener, address, store, keys })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready; then takes no new connection and gives requests in flight five
    /// seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut builder = S3ServiceBuilder::new(Api { store: self.store });
        builder.set_auth(self.keys);
        let service = builder.build();
        let connections = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => serve(stream, service.clone(), &connections),
                    // Most likely out of descriptors: others free theirs when they end.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
        drop(self.listener);
        let ended = tokio::time::timeout(LAST_REQUESTS, connections.shutdown()).await;
        // A request that takes longer is cut off.
        drop(ended);
    }
}

fn serve(stream: TcpStream, service: S3Service, connections: &GracefulShutdown) {
    // An answer is several small writes: without this each would wait for the one before.
    let _best_effort = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let watched = connections.watch(connection);
    tokio::spawn(async move {
        // The client went away, or did not speak HTTP: nobody is left to tell.
        let _ended = watched.await;
    });
}
