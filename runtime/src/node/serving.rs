//! A node in a program that has its own `main`: opened and attached as `serve` does it, with its
//! HTTP API on an address of its own, in a router of the program's, or both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use super::attach::Sidecar;
use super::figures::FiguresTask;
use super::http::{
    Api, AppInfo, Elsewhere, Readiness, Scraped, Server, Token, check_exposure, duration, guard,
    router,
};
use super::open::OpenNode;
use super::side::SideThread;
use crate::author::App;
use crate::engine::Node;
use crate::engine::recovery::Continues;
use crate::error::Error;
use crate::gate::Gate;

/// The default of [`ServeSettings::health_lag`].
pub(crate) const HEALTH_LAG: Duration = Duration::from_secs(60);

/// How [`App::serve`] opens a node. A value of this is valid.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    db: PathBuf,
    sidecar: Option<PathBuf>,
    listen: Option<SocketAddr>,
    token: Option<Token>,
    health_lag: Duration,
}

impl ServeSettings {
    /// A file without a sidecar, an address and a token.
    pub fn new(db: impl AsRef<Path>) -> ServeSettings {
        ServeSettings {
            db: db.as_ref().to_owned(),
            sidecar: None,
            listen: None,
            token: None,
            health_lag: HEALTH_LAG,
        }
    }

    /// What the environment says, as `serve` reads it: `TIDEMILL_DB` (default `workflow.db`),
    /// `TIDEMILL_SIDECAR`, which a sidecar sets for its command, `TIDEMILL_LISTEN` (default: no
    /// address), `TIDEMILL_TOKEN` and `TIDEMILL_HEALTH_LAG`.
    ///
    /// # Errors
    /// `Invalid` if one of them is not what it has to be.
    pub fn from_env() -> Result<ServeSettings, Error> {
        let set = |name: &str| match std::env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::invalid(format!("{name} is not text")))
            }
        };
        let path =
            |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let mut settings =
            ServeSettings::new(path("TIDEMILL_DB").unwrap_or_else(|| PathBuf::from("workflow.db")));
        settings.sidecar = path("TIDEMILL_SIDECAR");
        if let Some(listen) = set("TIDEMILL_LISTEN")? {
            let bad = |e| Error::invalid(format!("TIDEMILL_LISTEN is not HOST:PORT: {e}"));
            settings.listen = Some(listen.parse().map_err(bad)?);
        }
        if let Some(lag) = set("TIDEMILL_HEALTH_LAG")? {
            let bad = || Error::invalid("TIDEMILL_HEALTH_LAG: use a time such as `60s` or `5m`");
            settings.health_lag = duration(&lag).ok_or_else(bad)?;
        }
        settings.token =
            set("TIDEMILL_TOKEN")?.map(|token| Token::new("TIDEMILL_TOKEN", &token)).transpose()?;
        Ok(settings)
    }

    /// The socket of the sidecar that ships the file.
    #[must_use]
    pub fn sidecar(self, socket: impl AsRef<Path>) -> ServeSettings {
        ServeSettings { sidecar: Some(socket.as_ref().to_owned()), ..self }
    }

    /// Serves the HTTP API on this address, on a thread of its own that busy workflows cannot
    /// starve; port 0 takes a free one. Without an address only [`Serving::router`] serves it.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> ServeSettings {
        ServeSettings { listen: Some(address), ..self }
    }

    /// The bearer token that callers of the API must send.
    ///
    /// # Errors
    /// `Invalid` if it has fewer than 16 visible ASCII characters.
    pub fn token(self, token: &str) -> Result<ServeSettings, Error> {
        Ok(ServeSettings { token: Some(Token::new("TIDEMILL_TOKEN", token)?), ..self })
    }

    pub(crate) fn with_token(self, token: Option<Token>) -> ServeSettings {
        ServeSettings { token, ..self }
    }

    /// `/v1/health` answers 503 while a commit has waited longer than this to be shipped. Default
    /// 60 s.
    #[must_use]
    pub fn health_lag(self, lag: Duration) -> ServeSettings {
        ServeSettings { health_lag: lag, ..self }
    }
}

impl App {
    /// Opens a node as the command `serve` does, for a program that has its own `main`: it attaches
    /// to the sidecar that the settings name, continues the file's runs, and serves the HTTP API
    /// where the settings say.
    ///
    /// ```no_run
    /// # async fn hello(_: tidemill::Ctx, name: String) -> tidemill::Result<String> { Ok(name) }
    /// # async fn example() -> tidemill::Result<()> {
    /// use tidemill::{App, ServeSettings};
    ///
    /// let app = App::new("shop").workflow("hello", hello);
    /// let serving = app.serve(ServeSettings::from_env()?).await?;
    /// let run = serving.node().start(hello, "Ada".to_owned()).await?;
    /// assert_eq!(run.result().await?, "Ada");
    ///
    /// let router = axum::Router::new().merge(serving.router()); // and routes of your own
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// tokio::select! {
    ///     ended = axum::serve(listener, router) => ended?,
    ///     () = serving.fenced() => {} // another owner has the node: leave at once
    ///     _ = tokio::signal::ctrl_c() => {}
    /// }
    /// serving.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`App::open`]; `Invalid` for an address that other machines reach without a token;
    /// `Unavailable` if the sidecar does not answer or the address is taken; `Fenced` if another
    /// owner has the node.
    pub async fn serve(self, settings: ServeSettings) -> Result<Serving, Error> {
        let ServeSettings { db, sidecar, listen, token, health_lag } = settings;
        let guard = guard(token)?;
        if let Some(listen) = listen {
            check_exposure(listen, &guard)?;
        }
        let side = SideThread::start()?;
        let info = AppInfo::of(&self);
        let open = OpenNode::open(self, &db, sidecar, &side, Continues::All).await?;
        let shipping = open.sidecar.as_ref().map(|sidecar| sidecar.shipping().clone());
        let readiness = Readiness { shipping: shipping.unwrap_or_default(), lag_max: health_lag };
        let scraped = Scraped::under(open.sidecar.as_ref().map(Sidecar::socket));
        let (node, environment) = (open.node.clone(), open.environment.clone());
        let api = Api::new(node, info, environment, readiness, scraped, guard);
        let figures = open.sidecar.as_ref();
        let figures = figures.map(|sidecar| FiguresTask::start(&side, &open.node, sidecar));
        let mut serving = Serving { side, open, api, server: None, figures };
        if let Some(listen) = listen
            && let Err(error) = serving.listen(listen).await
        {
            serving.close().await?;
            return Err(error);
        }
        Ok(serving)
    }
}

/// An open node of a program with its own `main`. Close it before the program ends: dropping it
/// leaves the file to be recovered as after a crash.
#[derive(Debug)]
#[must_use = "a node that is dropped without close() is recovered as after a crash"]
pub struct Serving {
    side: SideThread,
    open: OpenNode,
    api: Arc<Api>,
    server: Option<Server>,
    figures: Option<FiguresTask>,
}

impl Serving {
    async fn listen(&mut self, listen: SocketAddr) -> Result<(), Error> {
        let server = Server::start(&self.side, listen, Arc::clone(&self.api)).await?;
        let address = format!("http://{}", server.address());
        self.server = Some(server);
        if let Err(error) = self.open.node.announce(&address) {
            // Others who find the file locked are then told the process alone.
            tracing::warn!(%error, "the address cannot be noted beside the file");
        }
        Ok(())
    }

    /// The node: starts runs and waits for them.
    pub fn node(&self) -> &Node {
        &self.open.node
    }

    /// The HTTP API, under `/v1` and `/metrics`, to be merged into a router of the program's own. It is
    /// guarded as that of `serve` is: by the token, or without one against foreign web pages. It
    /// runs on the runtime that serves it, where a busy workflow may delay it.
    ///
    /// Without a token, bind loopback addresses only.
    pub fn router(&self) -> Router {
        router(Arc::clone(&self.api), Elsewhere::Outside)
    }

    /// The address that the settings asked to listen on; `None` if they asked for none.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Waits until another owner has the node; for ever without a sidecar. The process should then
    /// exit at once, with 75: what it does from now on does not count.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn fenced(&self) {
        match &self.open.sidecar {
            Some(sidecar) => sidecar.fenced().await,
            None => std::future::pending().await,
        }
    }

    /// Stops HTTP, gives step bodies their grace, closes the file and detaches from the sidecar.
    /// What is unfinished is continued by whoever opens the file next.
    ///
    /// # Errors
    /// As [`Node::shutdown`].
    pub async fn close(self) -> Result<(), Error> {
        let Serving { side, open, api, server, figures, .. } = self;
        if let Some(figures) = figures {
            figures.stop().await;
        }
        match server {
            Some(server) => server.stop().await,
            None => api.close().await,
        }
        open.close(&side).await
    }

    /// The gate, which tells also while the node closes that another owner has it.
    pub(crate) fn gate(&self) -> Gate {
        self.open.environment.gate.clone()
    }
}
