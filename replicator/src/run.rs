//! One life of the sidecar: the start, then the loop over a ready node, until either of them ends.
//!
//! When something essential fails (the state file, the database's folder), the process kills
//! Litestream, asks CMD to leave, and ends with an error; the lease expires. On a crash the kernel
//! ends Litestream and frees the locks; the app continues until its deadline. On SIGTERM the
//! sidecar drains the node.

use tidemill_model::NodeState;
use tidemill_telemetry::log::of_node;

use crate::app::socket::AppSocket;
use crate::context::Context;
use crate::end_signals::EndSignals;
use crate::error::{Error, ErrorKind};
use crate::serve::Serving;
use crate::settings::Settings;
use crate::start::{not_ready, run as starting};
use crate::supervise::EpochEnding;
use crate::systemd::ServiceManager;

/// The exit code when the final barrier did not count.
pub const EXIT_NOT_COVERED: u8 = 74;
/// The exit code when another owner has the node.
pub const EXIT_FENCED: u8 = 75;

/// How a sidecar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEnd {
    code: u8,
}

impl RunEnd {
    /// The exit code: CMD's own, 74 if not everything reached the bucket, 75 if another owner has
    /// the node, 1 if the bucket lost it.
    pub fn code(self) -> u8 {
        self.code
    }

    fn of(outcome: EpochEnding) -> RunEnd {
        let code = match outcome {
            EpochEnding::Released(code) => code,
            EpochEnding::NotCovered => EXIT_NOT_COVERED,
            EpochEnding::NotReleased | EpochEnding::LeaseGone => 1,
            EpochEnding::Fenced => EXIT_FENCED,
        };
        RunEnd { code }
    }
}

/// Runs a sidecar until CMD has ended, a signal asks it to end, or it has lost the node.
///
/// # Errors
/// What keeps it from running, each with what to do: the store or its bucket (`NotFound`,
/// `Invalid`, `Unavailable`), Litestream (`Invalid`), another process on the same file
/// (`Conflict`), a file that is not the node's (`Invalid`), a damaged replica (`Corrupt`).
///
/// # Crash safety
/// The process may be killed at any moment; the next one completes what this one began.
pub fn run(settings: Settings) -> Result<RunEnd, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("sidecar")
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot start: {e}")))?;
    let ended = runtime.block_on(run_on(settings));
    // Work on a thread, such as reading a whole log, must not delay the end: it is only repeated.
    runtime.shutdown_background();
    ended
}

async fn run_on(settings: Settings) -> Result<RunEnd, Error> {
    let mut signals = EndSignals::listen()?;
    let mut manager = ServiceManager::of_environment();
    of_node(&settings.node, None);
    let context = tokio::select! {
        biased;
        () = signals.asked() => {
            tracing::info!("a signal asks to end before the node was claimed");
            return Ok(RunEnd { code: 0 });
        }
        opened = Context::open(settings) => opened?,
    };
    let (socket, mut requests) = AppSocket::listen(context.beside(), &context.node_lock)?;
    let began = tokio::select! {
        biased;
        () = signals.asked() => {
            socket.close().await;
            return Ok(ended_early(&context));
        }
        began = starting::start(&context) => began?,
        () = not_ready::receive(&context, &mut requests) => unreachable!("it ends when dropped"),
        () = manager.follow_start(&context) => unreachable!("it ends when dropped"),
    };
    match began {
        starting::StartEnd::Fenced(state) => Ok(fenced_early(&context, *state)),
        starting::StartEnd::LeaseGone => Ok(lease_gone_early(&context)),
        starting::StartEnd::Ready(begun) => {
            let outcome =
                Serving::new(context, *begun, socket, requests, manager)?.run(signals).await?;
            Ok(RunEnd::of(outcome))
        }
    }
}

/// The end of a sidecar that a signal stopped before the node was ready. If it had made a claim,
/// the claim stays until it expires, because nothing was covered under it.
fn ended_early(context: &Context) -> RunEnd {
    if context.status().claimed {
        tracing::warn!("a signal asks to end during a take-over: the lease is left to expire");
        return RunEnd { code: EXIT_NOT_COVERED };
    }
    tracing::info!("a signal asks to end before the node was claimed");
    RunEnd { code: 0 }
}

/// The end of a sidecar whose lease vanished before the app could open the file; the next start
/// checks what the bucket has.
fn lease_gone_early(context: &Context) -> RunEnd {
    tracing::error!(
        node = %context.settings.node, fleet = %context.settings.fleet,
        "the lease document is gone: nobody should delete objects of a node; check the bucket"
    );
    RunEnd { code: 1 }
}

/// The end of a sidecar that lost the node before the app could open the file; the next start moves
/// the file aside.
fn fenced_early(context: &Context, mut state: NodeState) -> RunEnd {
    state.stage = tidemill_model::Stage::Fenced;
    if let Err(e) = context.save(&state) {
        tracing::error!(error = %e, "cannot record that the node was lost");
    }
    tracing::warn!(node = %state.node, "another owner took the node before it was ready");
    RunEnd { code: EXIT_FENCED }
}
