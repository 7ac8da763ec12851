//! The side thread runs HTTP and the lease watch on a runtime of its own, so that a busy step body
//! on the author's runtime cannot starve them.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, closed};

/// How long blocking tasks (copying a snapshot) may continue when the thread ends.
const LEFTOVER_MAX: Duration = Duration::from_secs(2);

/// The thread and its runtime. Dropping this ends both.
#[derive(Debug)]
pub(crate) struct SideThread {
    runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl SideThread {
    pub(crate) fn start() -> Result<SideThread, Error> {
        let failed = |e| Error::caused(ErrorKind::Internal, "cannot start a thread", e);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .thread_name("tidemill-side")
            .build()
            .map_err(failed)?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("tidemill-side".into())
            .spawn(move || {
                runtime.block_on(stopped.cancelled());
                runtime.shutdown_timeout(LEFTOVER_MAX);
            })
            .map_err(failed)?;
        Ok(SideThread { runtime: handle, stop, thread: Some(thread) })
    }

    /// Runs a future on the thread.
    pub(crate) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Runs a future on the thread and waits for it.
    pub(crate) async fn run<T, F>(&self, future: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match self.spawn(future).await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(closed()),
        }
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the side thread panicked");
        }
    }
}
