//! The least that any engine of this shape does, and nothing of what makes it one: a task a run, a
//! bounded channel to a writer's thread, one transaction for all that waits there, a reply, and one
//! spawned body a step. No replay, no ids, no checksum, no waiting for more before a commit.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::log::{BenchLog, run_id};
use crate::measure::{Figures, Meter};

/// More places than runs, so that no run waits for one.
const QUEUE_MAX: usize = 1_024;

/// A step for the writer.
struct StepMessage {
    run: Arc<str>,
    step: u32,
    reply: oneshot::Sender<()>,
}

/// Runs `runs` tasks of `steps` steps each.
pub(crate) async fn steps(db: &Path, runs: u32, steps: u32) -> anyhow::Result<Figures> {
    let log = BenchLog::create(db)?;
    let (writer, messages) = mpsc::channel(QUEUE_MAX);
    let thread = std::thread::spawn(move || write(log, messages));
    let meter = Meter::start(db)?;
    let mut tasks = JoinSet::new();
    for number in 0..runs {
        tasks.spawn(run(writer.clone(), run_id(number).into(), steps));
    }
    drop(writer);
    let done = tasks.join_all().await.into_iter().sum::<anyhow::Result<u32>>();
    let measured = meter.stop()?;
    thread.join().map_err(|_| anyhow!("the writer's thread panicked"))??;
    let done = done?;
    ensure!(done == runs * steps, "{done} steps of {} were done", runs * steps);
    measured.per_step(done)
}

async fn run(writer: mpsc::Sender<StepMessage>, run: Arc<str>, steps: u32) -> anyhow::Result<u32> {
    let mut done = 0;
    for step in 0..steps {
        let (reply, written) = oneshot::channel();
        let message = StepMessage { run: Arc::clone(&run), step, reply };
        writer.send(message).await.ok().context("the writer's thread has ended")?;
        written.await?;
        let output = tokio::spawn(async { 42 }).await?;
        done += u32::from(output == 42);
    }
    Ok(done)
}

/// The writer's thread writes all messages that wait in one transaction.
fn write(mut log: BenchLog, mut messages: mpsc::Receiver<StepMessage>) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    while messages.blocking_recv_many(&mut batch, QUEUE_MAX) > 0 {
        log.begin()?;
        for message in &batch {
            log.insert_step(&message.run, message.step)?;
        }
        log.commit()?;
        for message in batch.drain(..) {
            message.reply.send(()).ok().context("a run does not wait for its reply")?;
        }
        log.leave_gap();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::slow_sync;

    #[tokio::test]
    async fn a_run_that_is_alone_has_a_commit_a_step_and_many_share_them() {
        let folder = tempfile::tempdir().unwrap();
        let alone = steps(&folder.path().join("alone.db"), 1, 20).await.unwrap();
        assert_eq!(alone.steps_a_commit, 1.0);
        // While a commit is synced, all others come.
        slow_sync::delay(Duration::from_millis(5)).unwrap();
        let many = steps(&folder.path().join("many.db"), 50, 4).await.unwrap();
        assert!(many.steps_a_commit > 2.0, "{many:?}");
    }
}
