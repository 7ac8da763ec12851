//! Litestream in the loop: started with fresh credentials, watched, killed or stopped.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{Epoch, Txid};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::serve::Done;
use crate::ship::litestream::child::{Launch, LitestreamChild};
use crate::ship::litestream::config::Config;
use crate::ship::litestream::credentials;
use crate::ship::litestream::{config_path, local_state};

/// A Litestream that answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: LitestreamChild,
    pub(crate) version: String,
    /// In how long it is to be started again with new credentials.
    pub(crate) replace_in: Option<Duration>,
}

/// Why Litestream does not run.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// It has lost its own state: it must not run under this prefix any more.
    StateLost,
    /// It could not be started, or was of no use; it may the next time.
    Failed(String),
}

impl<E: std::error::Error> From<E> for NotStarted {
    fn from(error: E) -> NotStarted {
        NotStarted::Failed(error.to_string())
    }
}

/// Starts Litestream for `epoch`, under whose prefix `counted` was the last barrier that counted,
/// and waits until it answers.
pub(crate) async fn start(
    context: &Arc<Context>,
    epoch: Epoch,
    counted: Option<Txid>,
) -> Result<Running, NotStarted> {
    if counted.is_some_and(|counted| local_state::end(context.beside()) < Some(counted)) {
        return Err(NotStarted::StateLost);
    }
    let keys = credentials::for_litestream(&context.store).await?;
    let settings = &context.settings;
    let config = Config {
        socket: context.litestream_socket.clone(),
        db: context.beside().db().to_owned(),
        bucket: context.store.bucket().to_owned(),
        prefix: context.keys.epoch(epoch),
        endpoint: context.store.endpoint().map(str::to_owned),
        region: context.store.region().to_owned(),
        force_path_style: context.store.endpoint().is_some(),
        window: settings.window,
        exact_window: settings.exact_window,
    };
    config.write(&config_path(context.beside()))?;
    let launch = Launch {
        executable: context.litestream.path(),
        beside: context.beside(),
        node_lock: &context.node_lock,
        credentials: &keys,
    };
    let child = LitestreamChild::spawn(&launch).await?;
    match context.control.wait_ready(&child).await {
        Ok(info) => {
            let replace_in = credentials::replace_in(&keys, host::wall_now());
            Ok(Running { child, version: info.version, replace_in })
        }
        Err(error) => {
            child.kill().await;
            Err(error.into())
        }
    }
}

/// Tells the loop when the child ends, however it ends.
pub(crate) fn watch(child: &LitestreamChild, done: &mpsc::UnboundedSender<Done>) {
    let (mut end, pid, done) = (child.watch(), child.pid(), done.clone());
    tokio::spawn(async move {
        let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        drop(done.send(Done::LitestreamEnded { pid, exit }));
    });
}
