//! The running tasks of an owner, which takes their results one at a time.

use std::future::{Future, pending};

use tokio::task::{JoinError, JoinSet};

/// The tasks of one owner. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Tasks<T>(JoinSet<Option<T>>);

impl<T: Send + 'static> Tasks<T> {
    pub(crate) fn new() -> Tasks<T> {
        Tasks(JoinSet::new())
    }

    /// Starts a task whose result [`Tasks::next`] gives.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.0.spawn(async move { Some(task.await) });
    }

    /// Starts a task without a result.
    pub(crate) fn spawn_silent(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            None
        });
    }

    /// The next result; waits without end while no task runs.
    ///
    /// # Panics
    /// If the task panicked.
    ///
    /// # Cancel safety
    /// No result is lost.
    pub(crate) async fn next(&mut self) -> T {
        loop {
            match self.0.join_next().await {
                Some(Ok(Some(result))) => return result,
                Some(Ok(None)) => {}
                Some(Err(error)) => resume(error),
                None => pending().await,
            }
        }
    }

    /// Aborts the tasks that still run.
    pub(crate) async fn close(&mut self) {
        self.0.shutdown().await;
    }
}

/// Runs blocking work on a thread where blocking is allowed.
///
/// # Panics
/// If the work panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn resume(error: JoinError) {
    if error.is_panic() {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_one_at_a_time_and_silent_tasks_give_none() {
        let mut tasks = Tasks::new();
        tasks.spawn_silent(async {});
        tasks.spawn(async { 1 });
        assert_eq!(tasks.next().await, 1);
        tokio::select! {
            biased;
            result = tasks.next() => panic!("{result}"),
            () = tokio::task::yield_now() => {}
        }
        tasks.spawn(blocking(|| 2));
        assert_eq!(tasks.next().await, 2);
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_goes_on_where_the_result_is_awaited() {
        let mut tasks = Tasks::<()>::new();
        tasks.spawn(async { panic!("as it was") });
        tasks.next().await;
    }
}
