//! Litestream's effects and answers in the loop.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;

use crate::child_process::Exit;
use crate::context::Context;
use crate::failpoint;
use crate::problems::Topic;
use crate::serve::perform::blocking;
use crate::serve::{Done, Serving};
use crate::ship::barrier::{self, Patience};
use crate::ship::litestream::control::{SyncCure, SyncFailure, SyncFailureKind, Synced};
use crate::ship::litestream::progress;
use crate::ship::litestream::start::{self, Running};
use crate::ship::wal::WalEnd;
use crate::supervise::{self, Restart};

/// How long a commit that is under way when Litestream has shipped may take: far more than a disk
/// needs to sync.
const PUBLISHED_BOUND: Duration = Duration::from_secs(5);
/// How often it is looked at; it costs two small reads.
const PUBLISHED_CHECK: Duration = Duration::from_millis(1);

impl Serving {
    pub(super) fn spawn_litestream(&mut self) {
        self.kill_started = false;
        let (context, epoch) = (Arc::clone(&self.context), self.epoch);
        let counted = self.state.last_good.map(|good| good.txid);
        self.spawn(async move {
            Done::LitestreamStarted(start::start(&context, epoch, counted).await.map(Box::new))
        });
    }

    pub(super) fn litestream_started(&mut self, running: Running) {
        let Running { child, version, replace_in } = running;
        start::watch(&child, &self.done);
        self.litestream_pid = Some(child.pid());
        self.litestream_version = Some(version);
        self.replace_at = replace_in.map(|wait| host::boot_now().saturating_add(wait));
        tracing::info!(pid = child.pid(), "litestream runs");
        failpoint::reached("litestream_started");
        self.litestream = Some(child);
        if std::mem::take(&mut self.kill_started) {
            self.end_litestream(false);
        } else {
            self.tell_supervisor(supervise::Input::LitestreamUp);
        }
    }

    pub(super) fn end_litestream(&mut self, politely: bool) {
        let Some(child) = self.litestream.take() else {
            self.kill_started = true;
            return;
        };
        // Its watcher tells the end.
        self.tasks.spawn(async move {
            if politely {
                child.stop().await
            } else {
                child.kill().await
            };
        });
    }

    pub(super) fn litestream_ended(&mut self, pid: u32, exit: Option<Exit>) {
        if self.litestream_pid != Some(pid) {
            return;
        }
        self.litestream_pid = None;
        self.replace_at = None;
        let exit = exit.unwrap_or(Exit::Unknown);
        match self.litestream.take() {
            Some(child) => {
                let last = child.last_lines().join("; ");
                tracing::warn!(pid, %exit, last, "litestream ended by itself: starting it again");
                self.say(Topic::Litestream, format!("litestream ended with {exit}: {last}"));
            }
            None => tracing::info!(pid, %exit, "litestream ended"),
        }
        self.tell_supervisor(supervise::Input::LitestreamEnded);
    }

    pub(super) fn synced(&mut self, result: Result<Synced, SyncFailure>) {
        let reply = match result {
            Ok(Synced { txid, replicated_txid, .. }) => {
                Some(barrier::Synced { shipped: true, txid, replicated_txid })
            }
            Err(failure) => {
                self.sync_failed(&failure);
                None
            }
        };
        self.tell_barriers(barrier::Input::Synced(reply));
    }

    /// What the round began with is in the bucket.
    pub(super) fn accepted(&mut self) {
        self.clear(Topic::Upload);
        self.clear(Topic::Litestream);
        self.shipped_at = Some(host::wall_now());
        self.shipped_end = self.sent_end.take();
        self.context.status().wal_lag_bytes = 0;
    }

    fn sync_failed(&mut self, failure: &SyncFailure) {
        let context = &self.context;
        let end = WalEnd::read(context.beside(), self.shipped_end.as_ref());
        context.status().wal_lag_bytes =
            end.map_or(0, |end| end.bytes_since(self.shipped_end.as_ref()));
        if self.say(Topic::Upload, failure.to_string()) {
            tracing::warn!(why = %failure, "an upload failed: trying again");
        }
        match failure.kind.cure() {
            SyncCure::Retry => {}
            SyncCure::Wake => {
                self.tell_supervisor(supervise::Input::RestartLitestream(Restart::Silent));
            }
            SyncCure::Restart | SyncCure::Mend => {
                self.tell_supervisor(supervise::Input::RestartLitestream(Restart::WrongAnswer));
            }
            SyncCure::NewEpoch => self.tell_supervisor(supervise::Input::StateMismatch),
        }
    }
}

/// Has Litestream ship, and waits until every commit that it may have shipped is one that the
/// database has: an app that dies before it has told of a commit may never have made it.
pub(super) async fn ship(
    context: &Arc<Context>,
    pid: Option<u32>,
    patience: Patience,
    earlier: Option<WalEnd>,
) -> Result<Synced, SyncFailure> {
    let synced = tokio::select! {
        synced = context.control.sync(patience.total) => synced?,
        () = progress::stalled(pid, patience.stall) => {
            let text = format!("the upload moved nothing for {} s", patience.stall.as_secs());
            return Err(SyncFailure { kind: SyncFailureKind::UploadStuck, text });
        }
    };
    let looked_at = Arc::clone(context);
    let end = blocking(move || WalEnd::read(looked_at.beside(), earlier.as_ref())).await;
    let until = host::boot_now().saturating_add(PUBLISHED_BOUND);
    while !end.as_ref().is_none_or(|end| end.is_published(context.beside())) {
        if host::boot_now() >= until {
            let text = "the app has been in one commit for too long".to_owned();
            return Err(SyncFailure { kind: SyncFailureKind::Unpublished, text });
        }
        tokio::time::sleep(PUBLISHED_CHECK).await;
    }
    Ok(synced)
}
