//! What a run's log says it has done, and how that compares with what the code does now. Pure.
//!
//! A run's log alternates inputs and acts; asides lie in between and replay skips them. The
//! journal folds it to what a driver needs: the operations that are open with all that a restart
//! of them takes, and the position of the last input or act.
//!
//! Comparing an act means its kind, operation and name, and for recorded inputs and final results
//! that the JSON means the same. When a timer fires and which time was given is what the log says.
//! Where an earlier version wrote the log, floats in that JSON need to be near only: it read them
//! up to 2 units in the last place wrong and passed on what it had read.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use tidemill_model::log_order::{self, OpClass, Phase, Standing};
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, EventClass, FailureKind, Floats, Json, OpId, OpName,
    RunCreated, RunId, RunStatus, Seed, Seq, Timestamp,
};

use super::cell::Asked;
use super::life::shown;
use super::polls::RunMark;

/// An event with its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) seq: Seq,
    pub(crate) ts: Timestamp,
    pub(crate) event: Event,
}

/// An operation that has started and not ended.
#[derive(Debug, Clone)]
pub(crate) struct OpenOp {
    pub(crate) name: OpName,
    pub(crate) kind: OpenKind,
    /// An end that the run has not observed yet, and where it stands.
    pub(crate) held: Option<(Seq, Event)>,
}

#[derive(Debug, Clone)]
pub(crate) enum OpenKind {
    Step(StepFacts),
    Timer { fire_at: Timestamp },
    Child { child: RunId },
}

/// What a step's next attempt needs to know.
#[derive(Debug, Clone)]
pub(crate) struct StepFacts {
    pub(crate) input: Json,
    pub(crate) started_at: Timestamp,
    /// The newest attempt: it runs, is queued, or waits for `next_at`.
    pub(crate) attempt: u32,
    pub(crate) begun: Begun,
    pub(crate) failures: u32,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) last_checkpoint: Option<Json>,
    /// Where attempts began since the newest sign of progress: the step's start, a failed attempt,
    /// or a checkpoint, which counts as a beginning itself.
    began: Vec<Seq>,
}

/// Whether the body of the newest attempt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It did: if its process has ended, its number is used up.
    Yes,
    /// It did not, or its beginning would be in the log.
    No,
    /// The log is of a version that did not record when a retry began.
    Untold,
}

impl StepFacts {
    pub(crate) fn first(input: Json, started_at: Timestamp, queued: bool, seq: Seq) -> StepFacts {
        let mut facts = StepFacts {
            input,
            started_at,
            attempt: 1,
            begun: Begun::No,
            failures: 0,
            next_at: None,
            last_checkpoint: None,
            began: Vec::new(),
        };
        if !queued {
            facts.begin(1, seq);
        }
        facts
    }

    /// Whether the newest attempt has to be taken for one that began, when its process has ended.
    /// Where the log does not tell, the clock has to.
    pub(crate) fn may_have_begun(&self, now: Timestamp) -> bool {
        match self.begun {
            Begun::Yes => true,
            Begun::No => false,
            Begun::Untold => self.next_at.is_none_or(|at| at <= now),
        }
    }

    /// Where the newest attempt began, as far as the log tells.
    pub(crate) fn began_at(&self) -> Seq {
        self.began.last().copied().unwrap_or(Seq::ZERO)
    }

    fn begin(&mut self, attempt: u32, seq: Seq) {
        if self.begun == Begun::Yes && self.attempt == attempt {
            // It began later than was thought: it waited for the lease.
            self.began.pop();
        }
        self.attempt = attempt;
        self.begun = Begun::Yes;
        self.next_at = None;
        self.began.push(seq);
    }

    fn fail(&mut self, attempt: u32, next_at: Timestamp, told: bool, seq: Seq) {
        self.failures = self.failures.saturating_add(1);
        self.attempt = attempt.saturating_add(1);
        self.next_at = Some(next_at);
        self.began.clear();
        self.begun = if told { Begun::No } else { Begun::Untold };
        if !told {
            self.began.push(seq);
        }
    }

    fn restart(&mut self, attempt: u32, queued: bool, seq: Seq) {
        self.attempt = attempt;
        self.begun = Begun::No;
        self.next_at = None;
        if !queued {
            self.begin(attempt, seq);
        }
    }

    fn record(&mut self, attempt: u32, value: &Json, seq: Seq) {
        self.last_checkpoint = Some(value.clone());
        self.began.clear();
        self.begin(attempt, seq);
    }

    /// How often in a row the process died during an attempt without progress, when all attempts
    /// that began after `base` ended so.
    pub(crate) fn crashes(&self, base: Seq) -> usize {
        self.began.iter().filter(|began| **began > base).count()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) open: FxHashMap<OpId, OpenOp>,
    /// Children that the run dropped, which have to be cancelled if they still run.
    pub(crate) dropped_children: Vec<RunId>,
    /// The position of the last input or act.
    pub(crate) last: Seq,
    /// How many processes took the run up.
    pub(crate) attempt: u32,
    pub(crate) blocked: Option<BlockReason>,
    pub(crate) ended: bool,
    begun: bool,
    /// Every operation that has started.
    started: Started,
    /// Where it was last resumed.
    pub(crate) resumed: Seq,
    seed: Option<Seed>,
    steps_open: usize,
}

/// A set of operations, 64 to a word: a run may have had millions.
#[derive(Debug, Default)]
struct Started(FxHashMap<u32, u64>);

impl Started {
    fn place(op: OpId) -> (u32, u64) {
        (op.get() / 64, 1 << (op.get() % 64))
    }

    fn add(&mut self, op: OpId) {
        let (word, bit) = Started::place(op);
        *self.0.entry(word).or_default() |= bit;
    }

    fn has(&self, op: OpId) -> bool {
        let (word, bit) = Started::place(op);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }
}

impl Journal {
    /// The journal of a log, which begins with `run_created`.
    pub(crate) fn of(log: &[Record]) -> Result<Journal, BlockReason> {
        let mut journal = Journal::default();
        for record in log {
            journal
                .apply(record.seq, record.ts, &record.event)
                .map_err(|why| unreadable(&format!("event {}: {why}", record.seq)))?;
        }
        Ok(journal)
    }

    pub(crate) fn apply(&mut self, seq: Seq, ts: Timestamp, event: &Event) -> Result<(), String> {
        let phase = match (self.begun, self.ended) {
            (_, true) => Phase::Ended,
            (true, false) => Phase::Going,
            (false, false) => Phase::Empty,
        };
        log_order::check(event, phase, |op| self.standing(op))?;
        self.begun = true;
        match event.class() {
            EventClass::Input | EventClass::Act => self.last = seq,
            EventClass::Aside => {}
        }
        match event {
            Event::RunCreated(created) => self.seed = Some(created.seed),
            Event::NodeStarted(_) | Event::Now { .. } => {}
            Event::RunStarted { attempt, .. } => {
                self.attempt = *attempt;
                self.blocked = None;
            }
            Event::RunResumed {} => {
                self.blocked = None;
                self.resumed = seq;
            }
            Event::RunBlocked { reason } => self.blocked = Some(reason.clone()),
            Event::RunCompleted { .. } | Event::RunFailed { .. } => self.ended = true,
            Event::StepStarted { op, name, input, queued } => {
                let facts = StepFacts::first(input.clone(), ts, *queued, seq);
                self.start(*op, name, OpenKind::Step(facts));
            }
            Event::TimerStarted { op, name, fire_at } => {
                self.start(*op, name, OpenKind::Timer { fire_at: *fire_at });
            }
            Event::ChildStarted { op, name, child, .. } => {
                self.start(*op, name, OpenKind::Child { child: child.clone() });
            }
            Event::StepAttemptStarted { op, attempt, .. } => {
                self.step(*op)?.begin(*attempt, seq);
            }
            Event::StepAttemptFailed { op, attempt, next_at, of, .. } => {
                self.step(*op)?.fail(*attempt, *next_at, of.is_some(), seq);
            }
            Event::StepRestarted { op, attempt, queued, .. } => {
                self.step(*op)?.restart(*attempt, *queued, seq);
            }
            Event::Checkpoint { op, attempt, value, .. } => {
                self.step(*op)?.record(*attempt, value, seq);
            }
            Event::StepCompleted { op, .. }
            | Event::StepFailed { op, .. }
            | Event::TimerFired { op, .. }
            | Event::ChildCompleted { op, .. }
            | Event::ChildFailed { op, .. } => drop(self.end(*op)?),
            Event::OpDropped { op } => {
                if let OpenKind::Child { child } = self.end(*op)?.kind {
                    self.dropped_children.push(child);
                }
            }
            // What was held first counts.
            Event::OpHeld { op, end, .. } => {
                if let Some(open) = self.open.get_mut(op) {
                    open.held.get_or_insert_with(|| (seq, (**end).clone()));
                }
            }
        }
        Ok(())
    }

    /// Where a run stands that was taken up and has neither ended nor been blocked.
    pub(crate) fn status(&self) -> RunStatus {
        RunStatus::active(self.steps_open, self.open.len() - self.steps_open)
    }

    /// The operations that are open, in the order of their ids.
    pub(crate) fn open_ops(&self) -> Vec<OpId> {
        let mut ops: Vec<OpId> = self.open.keys().copied().collect();
        ops.sort_unstable();
        ops
    }

    /// A step that is open.
    pub(crate) fn open_step(&self, op: OpId) -> Option<(&OpenOp, &StepFacts)> {
        let open = self.open.get(&op)?;
        match &open.kind {
            OpenKind::Step(facts) => Some((open, facts)),
            OpenKind::Timer { .. } | OpenKind::Child { .. } => None,
        }
    }

    /// The ends that are held, in the order in which they were recorded.
    pub(crate) fn held(&self) -> Vec<Event> {
        let mut ends: Vec<_> = self.open.values().filter_map(|open| open.held.as_ref()).collect();
        ends.sort_unstable_by_key(|(seq, end)| (*seq, end.op()));
        ends.into_iter().map(|(_, end)| end.clone()).collect()
    }

    /// How the run is named where polls are noted.
    pub(crate) fn mark(&self, run: &RunId) -> Option<RunMark> {
        self.seed.map(|seed| RunMark::of(&seed, run))
    }

    fn start(&mut self, op: OpId, name: &OpName, kind: OpenKind) {
        self.steps_open += usize::from(matches!(kind, OpenKind::Step(_)));
        self.open.insert(op, OpenOp { name: name.clone(), kind, held: None });
        self.started.add(op);
    }

    fn standing(&self, op: OpId) -> Standing {
        match self.open.get(&op).map(|open| &open.kind) {
            Some(OpenKind::Step(_)) => Standing::Open(OpClass::Step),
            Some(OpenKind::Timer { .. }) => Standing::Open(OpClass::Timer),
            Some(OpenKind::Child { .. }) => Standing::Open(OpClass::Child),
            None if self.started.has(op) => Standing::Ended,
            None => Standing::Unknown,
        }
    }

    fn end(&mut self, op: OpId) -> Result<OpenOp, String> {
        let ended = self.open.remove(&op);
        let ended = ended.ok_or_else(|| format!("the end of operation {op}, which is not open"))?;
        self.steps_open -= usize::from(matches!(ended.kind, OpenKind::Step(_)));
        Ok(ended)
    }

    fn step(&mut self, op: OpId) -> Result<&mut StepFacts, String> {
        match self.open.get_mut(&op).map(|open| &mut open.kind) {
            Some(OpenKind::Step(facts)) => Ok(facts),
            Some(OpenKind::Timer { .. } | OpenKind::Child { .. }) | None => {
                Err(format!("progress of step {op}, which is not open"))
            }
        }
    }
}

/// What a run was created with: the first event of its log.
pub(crate) fn created(log: &[Record]) -> Result<&RunCreated, BlockReason> {
    match log.first().map(|record| &record.event) {
        Some(Event::RunCreated(created)) => Ok(created),
        Some(other) => Err(unreadable(&format!("it begins with {}", other.kind()))),
        None => Err(unreadable("it is empty")),
    }
}

/// A log that this version cannot fold.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) reason: BlockReason,
    /// The newest event that is no aside, as the writer sees it.
    pub(crate) last: Seq,
    /// Why the run is blocked, as far as the log can be read.
    pub(crate) blocked: Option<BlockReason>,
}

impl Unreadable {
    /// A log that can be read, whose events do not fit together.
    pub(crate) fn misfit(log: &[Record], reason: BlockReason) -> Unreadable {
        let mut this = Unreadable { reason, last: Seq::ZERO, blocked: None };
        for record in log {
            this.see(record.seq, record.event.class() != EventClass::Aside, Some(&record.event));
        }
        this
    }

    /// Takes one more event into account, or one that cannot be read.
    pub(crate) fn see(&mut self, seq: Seq, observed: bool, event: Option<&Event>) {
        if observed {
            self.last = seq;
        }
        match event {
            Some(Event::RunBlocked { reason }) => self.blocked = Some(reason.clone()),
            Some(Event::RunStarted { .. } | Event::RunResumed {}) => self.blocked = None,
            Some(_) | None => {}
        }
    }
}

pub(crate) fn unreadable(what: &str) -> BlockReason {
    BlockReason::unreadable(what)
}

/// Compares what the code did after one input with what the log has after it. `last` says that
/// the log ends there: then it may have less, or an end that was imposed on the run. Returns how
/// many of `asked` the log has.
pub(crate) fn compare(
    recorded: &[&Event],
    asked: &[Asked],
    floats: Floats,
    last: bool,
) -> Result<usize, BlockReason> {
    let both = recorded.iter().zip(asked);
    let known = both.take_while(|(logged, asked)| asked.event.is_same_act(logged, floats)).count();
    match (recorded.get(known), asked.get(known)) {
        (None, None) => Ok(known),
        (None, Some(_)) if last => Ok(known),
        (Some(_), _) if last && is_imposed_end(&recorded[known..]) => Ok(known),
        (logged, asked) => Err(nondeterminism(logged.copied(), asked.map(|asked| &asked.event))),
    }
}

/// Cancelling a run drops what is open and ends it, which its code does not ask for.
fn is_imposed_end(acts: &[&Event]) -> bool {
    let Some((Event::RunFailed { error }, before)) = acts.split_last() else { return false };
    error.kind == FailureKind::Cancelled
        && before.iter().all(|act| matches!(act, Event::OpDropped { .. }))
}

fn nondeterminism(recorded: Option<&Event>, asked: Option<&Event>) -> BlockReason {
    let nothing = "nothing more before the next event";
    BlockReason {
        kind: BlockReasonKind::Nondeterminism,
        op: recorded.and_then(Event::op).or_else(|| asked.and_then(Event::op)),
        logged: Some(recorded.map_or_else(|| nothing.to_owned(), describe)),
        asked: Some(asked.map_or_else(|| nothing.to_owned(), describe)),
        advice: "deploy the code that wrote this log, or code that does the same up to here; take \
                 time, randomness and order only from ctx; then resume the run"
            .to_owned(),
    }
}

fn describe(act: &Event) -> String {
    let mut text = match act.op() {
        Some(op) => format!("{} {op}", act.kind()),
        None => act.kind().to_string(),
    };
    if let Some(name) = act.name() {
        write!(text, " `{name}`").expect("writing to a string cannot fail");
    }
    match act {
        Event::StepStarted { input: json, .. }
        | Event::ChildStarted { input: json, .. }
        | Event::RunCompleted { output: json } => {
            write!(text, " with {}", shown(json)).expect("writing to a string cannot fail");
        }
        Event::RunFailed { error } => {
            write!(text, ": {}", error.message).expect("writing to a string cannot fail");
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests;
