//! `serve`: a node with its HTTP API.
//!
//! On SIGTERM or SIGINT, HTTP stops, bodies have the grace to return, the engine records what they
//! return and closes the file, the app detaches from the sidecar, and the process exits with 0. A
//! second signal ends the process at once; the sidecar, or the next start, recovers as from a crash.
//! A fenced process exits with 75 within a bound.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::args::Serve;
use super::{CommandResult, print_line};
use crate::author::App;
use crate::engine::Node;
use crate::engine::polls::process_ends;
use crate::engine::recovery::Continues;
use crate::error::{Error, ErrorKind};
use crate::node::attach::{Sidecar, exit_fenced};
use crate::node::http::{AppInfo, Readiness, Scraped, Server, Token, check_exposure};
use crate::node::open::OpenNode;
use crate::node::side::SideThread;

pub(super) async fn serve(app: App, args: Serve) -> CommandResult {
    let token = token_from_environment()?;
    check_exposure(args.listen, token.as_ref())?;
    let mut signals = Signals::listen()?;
    let side = SideThread::start()?;
    let info = info(&app);
    let app = args.file.settle(app);
    let opening = OpenNode::open(app, &args.file.db, args.file.sidecar, &side, Continues::All);
    let open = tokio::select! {
        biased;
        open = opening => open?,
        // The file is not open yet, or is just being opened. The process's exit frees the lock, and
        // the sidecar sees the stream end.
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let (node, environment) = (open.node.clone(), open.environment.clone());
    let scraped = Scraped::under(open.sidecar.as_ref().map(Sidecar::socket));
    let shipping = open.sidecar.as_ref().map(|sidecar| sidecar.shipping().clone());
    let readiness = Readiness { shipping: shipping.unwrap_or_default(), lag_max: args.health_lag };
    let server =
        Server::start(&side, args.listen, token, node, info, environment, (readiness, scraped));
    let server = server.await;
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            open.close(&side).await?;
            return Err(error);
        }
    };
    let address = format!("http://{}", server.address());
    if let Err(error) = open.node.announce(&address) {
        // Others who find the file locked are then told the process alone.
        tracing::warn!(%error, "the address cannot be noted beside the file");
    }
    print_line(&format!("listening on {address}"));
    tell_of_copy(&open.node, args.unpark).await?;
    tokio::select! {
        biased;
        () = fenced(open.sidecar.as_ref()) => exit_fenced(),
        _ = signals.next() => {}
    }
    tracing::info!("a signal asks to end: finishing");
    let gate = open.environment.gate.clone();
    let closing = async move {
        server.stop().await;
        open.close(&side).await
    };
    tokio::select! {
        biased;
        closed = closing => closed?,
        () = gate.fenced() => exit_fenced(),
        signal = signals.next() => signal.exit_now(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what a copy that is a node of its own is, and unparks its runs if that is wanted.
async fn tell_of_copy(node: &Node, unpark: bool) -> Result<(), Error> {
    let Some(copy) = node.own_copy() else { return Ok(()) };
    let parked = node.parked().await?;
    let (name, of, runs) = (copy.name.as_str(), copy.origin(), parked.len());
    if parked.is_empty() {
        tracing::info!(node = name, of, "this file is a copy that is a node of its own");
    } else if unpark {
        tracing::warn!(
            node = name,
            of,
            runs,
            "unparking runs of a copy: steps that had not ended run again under other idempotency \
             keys, so what their effects did after the copy was made is done a second time"
        );
        for run in &parked {
            match node.resume(run).await {
                Ok(()) => {}
                // Somebody else resumed it, or its parent ended it.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    } else {
        tracing::warn!(
            node = name,
            of,
            runs,
            "runs of a copy are parked: `resume RUN` lets one go on, `serve --unpark` all"
        );
    }
    Ok(())
}

/// The bearer token. It is not a flag, because other users of the machine can read those.
pub(super) fn token_from_environment() -> Result<Option<Token>, Error> {
    match std::env::var("TIDEMILL_TOKEN") {
        Ok(token) if token.is_empty() => Ok(None),
        Ok(token) => Token::new(&token).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::Invalid, "TIDEMILL_TOKEN is not text"))
        }
    }
}

fn info(app: &App) -> AppInfo {
    AppInfo {
        name: app.name().to_owned(),
        version: app.version.clone(),
        workflows: app.workflow_names(),
    }
}

/// Waits until another owner has the node; for ever without a sidecar.
pub(super) async fn fenced(sidecar: Option<&Sidecar>) {
    match sidecar {
        Some(sidecar) => sidecar.fenced().await,
        None => std::future::pending().await,
    }
}

/// The signals that ask the process to stop.
pub(super) struct Signals {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Signals, Error> {
        let failed = |e| Error::caused(ErrorKind::Internal, "cannot listen for signals", e);
        Ok(Signals {
            term: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    pub(super) async fn next(&mut self) -> EndSignal {
        tokio::select! {
            _ = self.term.recv() => EndSignal::Term,
            _ = self.interrupt.recv() => EndSignal::Interrupt,
        }
    }
}

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndSignal {
    Term,
    Interrupt,
}

impl EndSignal {
    /// 128 and the signal's number, as shells report it.
    fn code(self) -> u8 {
        match self {
            EndSignal::Interrupt => 130,
            EndSignal::Term => 143,
        }
    }

    /// The exit code of a process whose work it interrupted.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// Ends the process at once: the sidecar, or the next start, recovers as from a crash.
    pub(super) fn exit_now(self) -> ! {
        process_ends();
        std::process::exit(i32::from(self.code()))
    }
}
