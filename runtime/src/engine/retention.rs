//! Retention: ended runs leave by the rules of the program, or by those of a request.
//!
//! One pass at a time looks at all ended runs, newest first, through a reader, and hands those that
//! leave to the writer, some hundred rows a message. `docs/design/retention.md` has the reasons.
//!
//! Invariants:
//! - nothing leaves while it is not known which positions are still compared;
//! - a run that is in memory stays, and so does one whose body still runs: what that body records
//!   must not reach a later run of the same id.
//!
//! Failure: a pass that cannot read or write ends, and the next one begins anew. A run with a
//! damaged row stays, and is named once. Crash and closing: what was removed is removed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_eventlog::prune::PrunableRun;
use tidemill_model::{
    BootTime, ComparedSeqs, PruneReport, Retention, RunId, Seq, Stays, Timestamp, unix_ms,
};

use super::Engine;
use super::clock::Clock;
use crate::error::{Error, ErrorKind, closed};

/// How often the rules of the program are applied.
const PASS_EVERY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 60_000 });

/// The pause after a pass is at least so many times as long as the pass looked at runs. What it
/// removed does not count: a node that ends many runs would let ever more of them wait.
const PAUSE_FACTOR: u32 = 10;

/// A pass that has been removing for this long falls behind what ends, and makes more haste.
const UNHURRIED_MAX: Duration = Duration::from_secs(20);

/// About how many events one message removes: one or two milliseconds of the writer's time, for
/// which all runs wait.
const EVENTS_A_MESSAGE: u64 = 128;

/// How much of the writer's time a pass leaves to the runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Haste {
    /// Nobody waits: after each message it pauses four times as long as that took, unless it falls
    /// behind.
    None,
    /// A person waits: half of the time.
    Asked,
}

impl Haste {
    /// The pause after a message that took so long, in a pass that began so long ago.
    fn pause(self, took: Duration, since: Duration) -> Duration {
        match self {
            Haste::None if since < UNHURRIED_MAX => took.saturating_mul(4),
            Haste::None | Haste::Asked => took,
        }
    }
}

/// How a pass is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// Only count what would leave.
    pub(crate) dry_run: bool,
    pub(crate) haste: Haste,
    /// When it ends early, with `more`.
    pub(crate) until: Option<BootTime>,
}

/// The positions of the log that are still compared, so that retention keeps their rows. Clones
/// share what the sidecar tells.
#[derive(Debug, Clone)]
pub struct StillCompared(Arc<Mutex<Option<ComparedSeqs>>>);

impl StillCompared {
    /// No positions: the file was never shipped.
    pub fn nothing() -> StillCompared {
        StillCompared(Arc::new(Mutex::new(Some(ComparedSeqs::NONE))))
    }

    /// It is not known until it is told, and nothing leaves before.
    pub fn unknown() -> StillCompared {
        StillCompared(Arc::new(Mutex::new(None)))
    }

    /// Takes what the sidecar tells. It only goes forward within an epoch, so what was told stays
    /// safe when the sidecar is lost.
    pub(crate) fn tell(&self, compared: ComparedSeqs) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(compared);
    }

    /// What was told last; `None` if nothing was.
    pub(crate) fn known(&self) -> Option<ComparedSeqs> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock by which runs grow old, and whether a pass is under way.
pub(crate) struct Pruning {
    clock: Clock,
    opened: (Timestamp, BootTime),
    pass: tokio::sync::Mutex<Stuck>,
}

/// The runs that cannot leave because a row of theirs is damaged, and that were named.
type Stuck = BTreeSet<RunId>;

impl Pruning {
    pub(super) fn new(clock: &Clock) -> Pruning {
        let opened = (clock.wall(), clock.boot());
        Pruning { clock: clock.clone(), opened, pass: tokio::sync::Mutex::default() }
    }

    /// The moment by which runs are old. A wall clock that jumps forward while this process lives
    /// makes no run older than the boot clock does.
    fn now(&self) -> Timestamp {
        let (wall, boot) = self.opened;
        self.clock.wall().min(wall.saturating_add(self.clock.boot().since(boot)))
    }
}

/// Applies the rules of the program from time to time, until the node closes.
pub(super) async fn watch(engine: Arc<Engine>) {
    let (mut pause, mut told) = (PASS_EVERY, None);
    loop {
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => return,
            () = engine.timers.sleep_beside(pause) => {}
        }
        if engine.environment.compared.known().is_none() {
            continue;
        }
        let began = engine.clock.boot();
        let pass = Pass { dry_run: false, haste: Haste::None, until: None };
        pause = PASS_EVERY;
        match engine.prune(&engine.app.retention, pass).await {
            Ok((PruneReport { runs, events, .. }, looked)) => {
                told = None;
                pause = pause.max(looked.saturating_mul(PAUSE_FACTOR));
                if runs > 0 {
                    let took_ms = unix_ms(engine.clock.boot().since(began));
                    tracing::info!(runs, events, took_ms, "ended runs left");
                }
            }
            Err(_) if engine.closing.is_cancelled() => return,
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    tracing::warn!(%error, "ended runs cannot leave now: trying again");
                    told = Some(text);
                }
            }
        }
    }
}

impl Engine {
    /// Removes what these rules let go, or counts it. Returns how long it looked at runs, too.
    pub(crate) async fn prune(
        self: &Arc<Self>,
        rules: &Retention,
        pass: Pass,
    ) -> Result<(PruneReport, Duration), Error> {
        let Pass { dry_run, haste, until } = pass;
        let mut stuck = self.pruning.pass.lock().await;
        let now = self.pruning.now();
        let (mut judge, mut before) = (rules.judge(), Seq::MAX);
        let mut report = PruneReport { dry_run, ..PruneReport::default() };
        let (from, mut looked) = (self.clock.boot(), Duration::ZERO);
        let since = |then: BootTime| self.clock.boot().since(then);
        loop {
            if self.closing.is_cancelled() {
                return Err(closed());
            }
            let compared = self.environment.compared.known().ok_or_else(unknown)?;
            let engine = Arc::clone(self);
            let busy = move |run: &RunId| engine.is_at_work(run);
            let (reads, began) = (self.store.reads(), self.clock.boot());
            let (again, found) = reads.prunable(judge, (now, before), compared, busy).await?;
            judge = again;
            looked = looked.saturating_add(since(began));
            if dry_run {
                report.join(&found.report);
            } else {
                report.kept += found.report.kept;
                report.stays.join(found.report.stays);
                for batch in batches(found.ended_runs) {
                    let began = self.clock.boot();
                    self.remove(batch, compared, &mut stuck, &mut report).await?;
                    self.rest(haste.pause(since(began), since(from))).await?;
                }
            }
            let Some(next) = found.next else { return Ok((report, looked)) };
            before = next;
            if until.is_some_and(|until| self.clock.boot() >= until) {
                report.more = true;
                return Ok((report, looked));
            }
        }
    }

    /// Waits, so that the runs have the writer meanwhile.
    async fn rest(&self, pause: Duration) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(closed()),
            () = self.timers.sleep(pause) => Ok(()),
        }
    }

    /// Removes these runs in one message.
    async fn remove(
        &self,
        batch: Vec<PrunableRun>,
        compared: ComparedSeqs,
        stuck: &mut Stuck,
        report: &mut PruneReport,
    ) -> Result<(), Error> {
        match self.store.prune(batch.clone(), compared).await {
            Ok(left) => {
                tell(report, &batch, left);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            // One of them has a damaged row: the others leave without it and its parents.
            Err(_) => {}
        }
        for ended in batch {
            let alone = vec![ended.clone()];
            match self.store.prune(alone.clone(), compared).await {
                Ok(left) => tell(report, &alone, left),
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => {
                    let run = ended.run;
                    if stuck.insert(run.clone()) {
                        tracing::warn!(%run, %error, "an ended run cannot leave");
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether this process still does something for a run that has ended.
    pub(crate) fn is_at_work(&self, run: &RunId) -> bool {
        self.registry.loaded(run).is_some() || self.has_loser(run)
    }
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the sidecar has not told yet what is covered, so no run may leave: try again after the \
         next renewal of the lease; a sidecar before 0.2 never tells",
    )
}

fn tell(report: &mut PruneReport, batch: &[PrunableRun], left: Vec<Result<(), Stays>>) {
    for (ended, left) in batch.iter().zip(left) {
        match left {
            Ok(()) => ended.count_in(report),
            Err(why) => report.stays.add(why),
        }
    }
}

/// The runs in their order, as many together as one message removes.
fn batches(ended_runs: Vec<PrunableRun>) -> Vec<Vec<PrunableRun>> {
    let (mut batches, mut events) = (Vec::new(), u64::MAX);
    for ended in ended_runs {
        if events.saturating_add(ended.events) > EVENTS_A_MESSAGE {
            batches.push(Vec::new());
            events = 0;
        }
        events += ended.events;
        if let Some(batch) = batches.last_mut() {
            batch.push(ended);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_some_events_and_at_least_one_run_in_their_order() {
        let ended = |(at, events): (u64, u64)| PrunableRun {
            run: RunId::new(&format!("r{at}")).unwrap(),
            seq: Seq::new(at).unwrap(),
            events,
            bytes: 0,
        };
        let sizes = |events: &[u64]| {
            let ended_runs: Vec<_> = (0..).zip(events.iter().copied()).map(ended).collect();
            let batches = batches(ended_runs.clone());
            assert_eq!(batches.concat(), ended_runs);
            batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[50, 50, 28, 1, 9_000, 3]), [3, 1, 1, 1]);
        assert_eq!(sizes(&[9_000, 9_000]), [1, 1]);
    }
}
