//! `tidemill dev`: a bucket, a sidecar and an app on this machine, until Ctrl-C.
//!
//! The bucket is in this process; the sidecar and the app are children in process groups of their
//! own, so that Ctrl-C reaches only this process, which ends them in order: the app, the sidecar
//! (which ships the rest and releases the node), the bucket. A second Ctrl-C kills them; the file
//! has everything that was acknowledged. Children that outlive a killed `dev` are ended by the next
//! one ([`leftovers`]).
//!
//! [`watch`] says when the app's program changed, [`changes`] what that means for its runs, and
//! [`words`] has all texts.

mod app;
mod ask;
mod changes;
mod leftovers;
mod sidecar;
mod state;
mod watch;
mod words;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tidemill_bucket::Litestream;
use tidemill_devbucket::{Keys, Server, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::app::App;
use self::sidecar::Sidecar;
use self::state::State;
use self::watch::Program;
use crate::output;

/// The bucket and fleet, and the node in it.
const BUCKET: &str = "dev";
const FLEET: &str = "s3://dev/fleet";
const NODE: &str = "dev";

/// How often the app's program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for the node's file and the bucket; it stays when this ends
    #[arg(long, value_name = "DIR", default_value = ".tidemill")]
    dir: PathBuf,
    /// Delete what the folder has, after asking, and begin anew
    #[arg(long)]
    fresh: bool,
    /// Answer every question with yes
    #[arg(long)]
    yes: bool,
    /// Where the bucket listens; if it is taken and you did not choose it, a free port
    #[arg(long, value_name = "ADDR")]
    bucket_listen: Option<SocketAddr>,
    /// The app, such as `./sweep serve`
    #[arg(last = true, value_name = "CMD", required = true)]
    command: Vec<OsString>,
}

/// What ended a wait of the loop.
enum Event {
    Interrupted,
    AppEnded(String),
    SidecarEnded(String),
    Changed,
    Ready(String),
    /// The sidecar has something to say to a person.
    Line(String),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(dev(args));
    // A thread that reads an answer from the terminal would be waited for.
    runtime.shutdown_background();
    ended
}

async fn dev(args: &Args) -> anyhow::Result<ExitCode> {
    let litestream = Litestream::find().await?;
    let program = Program::of(&args.command)?;
    if args.fresh && !state::empty(&args.dir, args.yes)? {
        return Ok(ExitCode::FAILURE);
    }
    let state = State::open(&args.dir)?;
    leftovers::end(&state).await?;

    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // The terminal was closed: what was started here must not go on without it.
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell_interrupt, mut interrupted) = mpsc::channel::<()>(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            if tell_interrupt.send(()).await.is_err() {
                return;
            }
        }
    });

    let store = Store::open(&state.bucket())?;
    store.create_bucket(BUCKET)?;
    let server = bind(args.bucket_listen, store).await?;
    let endpoint = format!("http://{}", server.address());
    state.write_environment(&endpoint, &Keys::development())?;
    let (stop_bucket, stopped) = tokio::sync::oneshot::channel::<()>();
    let bucket = tokio::spawn(server.run(async { drop(stopped.await) }));

    let mut session = Session {
        args,
        state: &state,
        program,
        endpoint,
        sidecar: None,
        app: None,
        litestream: litestream.path().to_owned(),
        announced: false,
        mended: Vec::new(),
    };
    let outcome = session.serve(&mut interrupted).await;
    let clean = session.leave(&mut interrupted).await;
    drop(stop_bucket);
    bucket.await.context("the bucket ended")?;
    outcome?;
    output::say(&words::ended(&state.root().display().to_string(), clean));
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bucket's usual address, so that commands in another terminal find it again; a free port if
/// that is taken.
async fn bind(chosen: Option<SocketAddr>, store: Store) -> anyhow::Result<Server> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 7422));
    let address = chosen.unwrap_or(usual);
    match Server::bind(address, store.clone(), Keys::development()).await {
        Ok(server) => Ok(server),
        Err(_) if chosen.is_none() => {
            let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = Server::bind(free, store, Keys::development()).await;
            server.context("no port is free for the bucket")
        }
        Err(error) => Err(anyhow::anyhow!("cannot listen on {address}: {error}")),
    }
}

/// One `tidemill dev`, with the children that it has.
struct Session<'a> {
    args: &'a Args,
    state: &'a State,
    program: Program,
    endpoint: String,
    sidecar: Option<Sidecar>,
    app: Option<App>,
    litestream: PathBuf,
    announced: bool,
    /// Blocked runs that the newest program fits.
    mended: Vec<String>,
}

impl Session<'_> {
    /// Runs both children until somebody asks to end.
    async fn serve(&mut self, interrupted: &mut mpsc::Receiver<()>) -> anyhow::Result<()> {
        self.start_sidecar()?;
        self.start_app()?;
        loop {
            match self.next(interrupted).await {
                Event::Interrupted => return Ok(()),
                Event::Ready(url) if self.announced => {
                    output::say(&words::again(&url));
                    if self.resume(&url, interrupted).await.is_break() {
                        return Ok(());
                    }
                }
                Event::Ready(url) => {
                    self.announced = true;
                    output::say_lines(&words::ready(&words::Ready {
                        url: &url,
                        endpoint: &self.endpoint,
                        state: &self.state.root().display().to_string(),
                        fleet: FLEET,
                        command: &words::command(&self.args.command),
                    }));
                }
                Event::Line(line) => output::say(&line),
                Event::AppEnded(how) => {
                    // The same program would end the same way: the next one is waited for.
                    output::say(&words::app_ended(&how));
                    self.app = None;
                }
                Event::SidecarEnded(how) => {
                    anyhow::bail!("{}", words::sidecar_ended(&how, &self.state.sidecar_log()));
                }
                Event::Changed => {
                    if self.changed(interrupted).await?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn next(&mut self, interrupted: &mut mpsc::Receiver<()>) -> Event {
        let Session { sidecar, app, program, .. } = self;
        tokio::select! {
            biased;
            _ = interrupted.recv() => Event::Interrupted,
            event = sidecar::next(sidecar.as_mut()) => event,
            event = app::next(app.as_mut()) => event,
            () = program.changed(LOOK_EVERY) => Event::Changed,
        }
    }

    fn start_sidecar(&mut self) -> anyhow::Result<()> {
        let sidecar = Sidecar::start(self.state, &self.endpoint, &self.litestream)?;
        leftovers::note(self.state, sidecar.child.pid())?;
        self.sidecar = Some(sidecar);
        Ok(())
    }

    fn start_app(&mut self) -> anyhow::Result<()> {
        self.program.seen();
        let app = App::start(&self.args.command, self.state)?;
        leftovers::note(self.state, app.child.pid())?;
        self.app = Some(app);
        Ok(())
    }

    /// The program is another one now: asks it what it thinks of the runs, and starts it.
    async fn changed(
        &mut self,
        interrupted: &mut mpsc::Receiver<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        self.program.seen();
        let report = changes::check(self.program.path(), &self.state.db()).await;
        output::say_lines(&words::changed(&report));
        self.mended = report.mended();
        if self.app.is_some() && report.blocks() > 0 {
            let keep = tokio::select! {
                keep = ask::choose(words::RESTART_OR_KEEP, 'k', self.args.yes) => keep,
                _ = interrupted.recv() => return Ok(ControlFlow::Break(())),
            };
            if keep {
                output::say(words::KEPT);
                return Ok(ControlFlow::Continue(()));
            }
        }
        if let Some(app) = self.app.take() {
            app.child.end(words::APP_TIME).await;
        }
        self.start_app()?;
        Ok(ControlFlow::Continue(()))
    }

    /// Offers to resume the blocked runs that the new program fits.
    async fn resume(&mut self, url: &str, interrupted: &mut mpsc::Receiver<()>) -> ControlFlow<()> {
        let mended = changes::still_blocked(url, std::mem::take(&mut self.mended)).await;
        if mended.is_empty() {
            return ControlFlow::Continue(());
        }
        output::say(&words::mended(&mended));
        let resume = tokio::select! {
            resume = ask::choose(words::RESUME_OR_NOT, 'r', self.args.yes) => resume || self.args.yes,
            _ = interrupted.recv() => return ControlFlow::Break(()),
        };
        for run in mended.iter().filter(|_| resume) {
            match changes::resume(url, run).await {
                Ok(()) => output::say(&format!("resumed {run}")),
                Err(error) => output::say(&format!("cannot resume {run}: {error}")),
            }
        }
        ControlFlow::Continue(())
    }

    /// Ends the children in order. False if one had to be killed, or did not ship everything.
    async fn leave(&mut self, interrupted: &mut mpsc::Receiver<()>) -> bool {
        let ending = async {
            output::say(words::ENDING);
            let mut clean = true;
            if let Some(app) = self.app.take() {
                clean &= app.child.end(words::APP_TIME).await;
            }
            if let Some(sidecar) = self.sidecar.take() {
                clean &= sidecar.child.end(words::SIDECAR_TIME).await;
            }
            clean
        };
        // Dropping the children kills them.
        let clean = tokio::select! {
            clean = ending => clean,
            Some(()) = interrupted.recv() => false,
        };
        leftovers::forget(self.state);
        clean
    }
}
