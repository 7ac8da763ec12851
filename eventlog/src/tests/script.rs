//! Random histories: what the writer projects is what the events say, and the views agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemill_model::{
    ApprovalRule, AttemptState, BlockReason, BlockReasonKind, Durability, Event, Failure,
    FailureKind, Json, Op, OpId, OpKind, OpName, OpStatus, Parent, PromiseAnswer, PromiseTerms,
    Requester, RunCreated, RunId, RunState, RunStatus, Seed, Seq, Signal, TokenGrant, Verdict,
};

use super::{File, at};
use crate::promises::{self, PromiseFilter};
use crate::{due, fsck, projection, query, verify};

/// A run as the script drives it.
struct Run {
    state: RunState,
    blocked_seq: Option<Seq>,
    stored: RunStatus,
    stored_blocked: Option<Seq>,
}

/// Writes random but well-formed histories, several runs at once.
pub(super) struct Script {
    pub(super) file: File,
    runs: BTreeMap<RunId, Run>,
    clock: i64,
}

fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn failure() -> Failure {
    Failure { kind: FailureKind::Failed, message: "no".into(), chain: vec!["why".into()] }
}

fn requester() -> Requester {
    Requester { by: Some("ada".into()), ..Requester::default() }
}

fn created(parent: Option<Parent>) -> Event {
    Event::RunCreated(Box::new(RunCreated {
        workflow: name("sweep"),
        input: json(r#"{"n":1}"#),
        labels: [("team".to_owned(), "a \"b\"".to_owned())].into(),
        seed: Seed::from_random([7; 16]),
        parent,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

fn blocked() -> Event {
    let reason = BlockReason {
        kind: BlockReasonKind::Panic,
        op: None,
        logged: None,
        asked: None,
        advice: "mend it".into(),
    };
    Event::RunBlocked { reason }
}

impl Script {
    pub(super) fn new() -> Script {
        Script { file: File::new(), runs: BTreeMap::new(), clock: 0 }
    }

    /// Forgets a run that was removed: its id is free.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// Asserts that the file has these runs as the script wrote them.
    pub(super) fn check_runs(&self) -> Result<(), TestCaseError> {
        for (id, run) in &self.runs {
            let folded = query::run_state(&self.file.connection, id, None).unwrap();
            prop_assert_eq!(folded.as_ref(), Some(&run.state));
        }
        check_views(self)
    }

    /// Runs the choices, `per_commit` events a transaction.
    pub(super) fn play(&mut self, choices: &[(u8, u8)], per_commit: usize) {
        for commit in choices.chunks(per_commit.max(1)) {
            self.file.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (which, what) in commit {
                self.one(*which, *what);
            }
            self.write_statuses();
            self.file.connection.execute_batch("COMMIT").unwrap();
            self.file.appender.committed();
        }
    }

    fn one(&mut self, which: u8, what: u8) {
        let children: Vec<&RunId> =
            self.runs.keys().filter(|id| id.as_str().contains('.')).collect();
        let which = usize::from(which) % (4 + children.len());
        let id = match which.checked_sub(4) {
            None => RunId::new(&format!("r{which}")).unwrap(),
            Some(child) => children[child].clone(),
        };
        let event = match self.runs.get(&id) {
            None => created(None),
            Some(run) if run.state.status.is_final() => return,
            Some(run) => next_event(&run.state, what),
        };
        self.put(&id, &event, what);
        if let Event::ChildStarted { op, child, outlives_parent, .. } = &event {
            let mut new = created(Some(Parent { run: id, op: *op }));
            if let Event::RunCreated(created) = &mut new {
                created.outlives_parent = *outlives_parent;
            }
            self.put(child, &new, what);
        } else if let Event::SpawnStarted { op, run, .. } = &event {
            let mut new = created(None);
            if let Event::RunCreated(created) = &mut new {
                created.spawned_by = Some(Parent { run: id, op: *op });
            }
            self.put(run, &new, what);
        }
    }

    fn put(&mut self, id: &RunId, event: &Event, what: u8) {
        // The clock steps back now and then.
        self.clock += i64::from(what) - 100;
        let connection = &self.file.connection;
        let put = self.file.appender.append(connection, at(self.clock), Some(id), event).unwrap();
        projection::project(connection, put, Some(id), event).unwrap();
        match self.runs.get_mut(id) {
            None => {
                let state = RunState::create(id, put.seq, put.ts, event).unwrap();
                let stored = RunStatus::Pending;
                let run = Run { state, blocked_seq: None, stored, stored_blocked: None };
                self.runs.insert(id.clone(), run);
            }
            Some(run) => {
                run.state.apply(put.seq, put.ts, event).unwrap();
                if matches!(event, Event::RunBlocked { .. }) {
                    run.blocked_seq = Some(put.seq);
                }
            }
        }
    }

    fn write_statuses(&mut self) {
        for (id, run) in &mut self.runs {
            let status = run.state.status;
            let blocked = run.blocked_seq.filter(|_| status == RunStatus::Blocked);
            if status == run.stored && blocked == run.stored_blocked {
                continue;
            }
            let because = if status.is_final() { Some(run.state.last_seq) } else { blocked };
            projection::set_status(&self.file.connection, id, status, because).unwrap();
            (run.stored, run.stored_blocked) = (status, blocked);
        }
    }
}

/// Some event that fits the state.
fn next_event(state: &RunState, what: u8) -> Event {
    let op = OpId::new(u32::try_from(state.ops.len()).unwrap() + 1).unwrap();
    let mut open = state.ops.iter().filter(|(_, op)| op.status == OpStatus::Open);
    match what % 16 {
        0 => Event::RunStarted { epoch: None, attempt: state.head.attempt + 1 },
        1..=3 => {
            let queued = what % 16 == 3;
            Event::StepStarted { op, name: name("fetch"), input: json("[1]"), queued }
        }
        4 if what > 128 => promise(op, what),
        4 => Event::TimerStarted { op, name: name("nap"), fire_at: at(i64::from(what)) },
        5 if what > 200 => {
            let run = state.id.child(op).unwrap();
            Event::SpawnStarted { op, name: name("mail"), run, input: json("null") }
        }
        5 => Event::ChildStarted {
            op,
            name: name("trial"),
            child: state.id.child(op).unwrap(),
            input: json("null"),
            outlives_parent: what > 100,
        },
        6 if what > 200 => Event::RunCompleted { output: json(r#""done""#) },
        7 if what > 200 => Event::RunFailed { error: failure(), terminated: false },
        8 => blocked(),
        10 if what > 128 => Event::StatusSet { op, value: json(r#"{"done":1}"#) },
        9 if state.status == RunStatus::Blocked => Event::RunResumed {},
        11 if what > 128 && !state.head.is_cancelling() => {
            let resolves = open.filter(|(op, _)| op.get() % 3 > 0).map(|(op, _)| (*op, 0));
            Event::CancelRequested { requester: requester(), resolves: resolves.collect() }
        }
        12 if what > 128 => Event::CancelHeld { requester: requester() },
        13 if what > 128 => Event::RunPaused { requester: requester() },
        14 if what > 128 => Event::SignalStarted { op, name: name("go") },
        15 if what > 128 => signal(state, what),
        _ => match open.next() {
            Some((op, open)) if matches!(open.kind, OpKind::Signal { .. }) => {
                wait(state, *op, open, what)
            }
            Some((op, open)) => progress(*op, open, what),
            None => Event::RunStarted { epoch: None, attempt: state.head.attempt + 1 },
        },
    }
}

fn promise(op: OpId, what: u8) -> Event {
    let approval = (what > 170).then(|| ApprovalRule { needs: 2, of: Vec::new(), not_by: None });
    let deadline = what.is_multiple_of(3).then(|| at(i64::from(what)));
    let message = Some("go on?".to_owned());
    let terms = PromiseTerms { message, deadline, approval, ..PromiseTerms::default() };
    Event::PromiseStarted { op, name: name("ask"), terms: Box::new(terms) }
}

/// What becomes of a promise.
fn answer(op: OpId, open: &Op, what: u8) -> Event {
    let OpKind::Promise { terms, answers } = &open.kind else { unreachable!("it is a promise") };
    if let Some(held) = &open.held {
        return held.end.clone();
    }
    let name = open.name.clone();
    if what % 5 == 3 {
        let grant = TokenGrant { hash: "0f".repeat(32), holder: None, expires_at: at(0) };
        return Event::PromiseToken { op, name, grant };
    }
    let verdict = match what % 5 {
        0 if terms.deadline.is_some() => Verdict::Expired,
        1 => Verdict::Rejected,
        _ => Verdict::Resolved,
    };
    let by = Some(format!("person {}", answers.len()));
    let answer = PromiseAnswer { by, ..PromiseAnswer::new(verdict, Some(json("[7]"))) };
    let settles = terms.approval.is_none() || verdict != Verdict::Resolved || !answers.is_empty();
    Event::PromiseAnswered { op, name, answer: PromiseAnswer { settles, ..answer } }
}

/// The next signal that is sent.
fn signal(state: &RunState, what: u8) -> Event {
    let number = state.head.signals.received() + 1;
    let key = what.is_multiple_of(3).then(|| number.to_string());
    Event::SignalReceived(Box::new(Signal {
        number,
        name: name(if what.is_multiple_of(4) { "stop" } else { "go" }),
        value: json("[7]"),
        key,
        by: None,
    }))
}

/// What becomes of a wait for a signal.
fn wait(state: &RunState, op: OpId, open: &Op, what: u8) -> Event {
    let name = open.name.clone();
    if what % 5 == 4 {
        return Event::OpDropped { op };
    }
    if open.given().is_some() {
        return Event::SignalTaken { op, name };
    }
    let fits = state.head.signals.kept().find(|kept| kept.signal.name == name);
    match fits {
        Some(kept) => Event::SignalDelivered { op, name, number: kept.signal.number },
        None => signal(state, what),
    }
}

fn progress(op: OpId, open: &Op, what: u8) -> Event {
    let name = open.name.clone();
    let attempt = open.attempts.last().map_or(1, |attempt| attempt.number);
    if what % 5 == 4 {
        return Event::OpDropped { op };
    }
    match (&open.kind, what % 5) {
        (OpKind::Timer { .. }, _) => Event::TimerFired { op, name },
        (OpKind::Child { .. }, 0) => Event::ChildFailed { op, name, error: failure() },
        (OpKind::Child { .. }, _) => Event::ChildCompleted { op, name, output: json("2") },
        (OpKind::Spawn { .. }, 0) => Event::SpawnFailed { op, name, error: failure() },
        (OpKind::Spawn { run, .. }, _) => Event::SpawnCompleted { op, name, run: run.clone() },
        (OpKind::Signal { .. }, _) => Event::OpDropped { op },
        (OpKind::Promise { .. }, _) => answer(op, open, what),
        (OpKind::Step { .. }, 0) => Event::StepCompleted { op, name, output: json("{}") },
        (OpKind::Step { .. }, 1) => Event::StepFailed { op, name, error: failure(), attempts: 1 },
        (OpKind::Step { .. }, 2) => {
            let (error, next_at) = (failure(), at(0));
            Event::StepAttemptFailed { op, name, attempt, error, next_at, of: Some(2) }
        }
        (OpKind::Step { .. }, _) if what.is_multiple_of(2) => {
            Event::StepAttemptStarted { op, name, attempt }
        }
        (OpKind::Step { .. }, _) => Event::Checkpoint { op, name, attempt, value: json("3") },
    }
}

fn strings(script: &Script, sql: &str) -> Vec<String> {
    let mut statement = script.file.connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_projected_is_what_the_events_say(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 1..120), per_commit in 1_usize..9
    ) {
        let mut script = Script::new();
        script.play(&choices, per_commit);
        let connection = &script.file.connection;
        let stored = projection::stored(connection).unwrap();
        let rebuilt = projection::rebuild(connection).unwrap();
        prop_assert_eq!(projection::compare(&stored, &rebuilt), Vec::<String>::new());
        prop_assert_eq!(&stored, &rebuilt);
        prop_assert_eq!(verify(connection).unwrap(), script.file.appender.head());
        let report = fsck(connection).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report.findings);

        for (id, run) in &script.runs {
            let folded = query::run_state(connection, id, None).unwrap().unwrap();
            prop_assert_eq!(&folded, &run.state);
            let listed = query::run(connection, id).unwrap().unwrap();
            prop_assert_eq!(listed.status, run.state.status);
            prop_assert_eq!(listed.updated_at, run.state.updated_at);
            prop_assert_eq!(listed.ended_at, run.state.ended_at);
            prop_assert_eq!(&listed.custom_status, &run.state.head.custom_status);
        }
        let blocked = script.runs.iter().filter(|(_, run)| run.state.status == RunStatus::Blocked);
        let expected = blocked.min_by_key(|(_, run)| run.blocked_seq).map(|(id, _)| id.clone());
        let oldest = query::oldest_blocked(connection).unwrap();
        prop_assert_eq!(oldest.as_ref().map(|(id, _, _)| id), expected.as_ref());
        if let Some((id, since, reason)) = oldest {
            let state = &script.runs[&id].state;
            prop_assert_eq!(reason.as_ref(), state.head.blocked.as_ref());
            prop_assert!(since <= state.updated_at);
        }
        check_views(&script)?;
        check_promises(&script)?;
    }
}

fn check_promises(script: &Script) -> Result<(), TestCaseError> {
    let mut promises = Vec::new();
    for (id, run) in &script.runs {
        for (op, it) in &run.state.ops {
            let OpKind::Promise { terms, answers } = &it.kind else { continue };
            let settled = answers.iter().find(|given| given.answer.settles);
            let status = match (settled, &it.status) {
                (Some(given), _) => given.answer.verdict.as_str(),
                (None, OpStatus::Cancelled(_)) => "cancelled",
                (None, OpStatus::Open) if !run.state.status.is_final() => "open",
                (None, _) => "dropped",
            };
            let deadline = terms.deadline.map(|at| at.to_string()).unwrap_or_default();
            promises.push(format!("{id} {op} {status} {} {deadline}", answers.len()));
        }
    }
    let sql =
        "SELECT run || ' ' || op || ' ' || status || ' ' || json_array_length(answers) || ' ' ||
        coalesce(deadline, '') FROM promises ORDER BY run, op";
    prop_assert_eq!(strings(script, sql), promises);
    let open = promises::promises(&script.file.connection, &PromiseFilter::default(), 999).unwrap();
    let waiting = |run: &&Run| !run.state.status.is_final();
    let expected: usize = script.runs.values().filter(waiting).map(open_promises).sum();
    prop_assert_eq!(open.len(), expected);
    Ok(())
}

fn open_promises(run: &Run) -> usize {
    let ops = run.state.ops.values().filter(|op| op.is_open() && op.held.is_none());
    ops.filter(|op| matches!(op.kind, OpKind::Promise { .. })).count()
}

/// The view of schema 1 also counts an attempt that waited, or was queued, when its step was
/// dropped; the fold knows that it never began.
fn attempts_of_the_view(step: &Op) -> u32 {
    let Some(last) = step.attempts.last() else { return 1 };
    let is_dropped = matches!(step.status, OpStatus::Dropped | OpStatus::Cancelled(None));
    let waited = is_dropped && last.state == AttemptState::Failed;
    last.number + u32::from(waited)
}

/// The views against the fold.
fn check_views(script: &Script) -> Result<(), TestCaseError> {
    let mut steps = Vec::new();
    let (mut timers, mut attempts) = (Vec::new(), Vec::new());
    for (id, run) in &script.runs {
        for (op, it) in &run.state.ops {
            let status = |open, done| match &it.status {
                OpStatus::Open => open,
                OpStatus::Completed(_) => done,
                OpStatus::Failed(_) => "failed",
                OpStatus::Cancelled(_) => "cancelled",
                OpStatus::Dropped => "dropped",
            };
            match &it.kind {
                OpKind::Step { input } => {
                    attempts.extend(it.attempts.iter().map(|attempt| {
                        format!("{id} {op} {} {}", attempt.number, attempt.state.as_str())
                    }));
                    let checkpoints = it.checkpoints.last().map(|c| c.value.as_str().to_owned());
                    let ended = it.ended_at.map(|at| at.to_string()).unwrap_or_default();
                    steps.push(format!(
                        "{id} {op} {} {} {} {ended} {input} {}",
                        it.name,
                        status("running", "completed"),
                        attempts_of_the_view(it),
                        checkpoints.unwrap_or_default()
                    ));
                }
                OpKind::Timer { fire_at } => {
                    timers.push(format!("{id} {op} {} {fire_at}", status("waiting", "fired")));
                }
                OpKind::Child { .. }
                | OpKind::Spawn { .. }
                | OpKind::Signal { .. }
                | OpKind::Promise { .. } => {}
            }
        }
    }
    let sql = "SELECT run || ' ' || op || ' ' || name || ' ' || status || ' ' || attempts || ' ' ||
        coalesce(ended_at, '') || ' ' || input || ' ' || coalesce(last_checkpoint, '')
        FROM steps ORDER BY run, op";
    prop_assert_eq!(strings(script, sql), steps);
    let sql = "SELECT run || ' ' || op || ' ' || attempt || ' ' || status FROM attempts
        ORDER BY run, op, attempt";
    prop_assert_eq!(strings(script, sql), attempts);
    let children = script.runs.iter().filter_map(|(id, run)| {
        let Parent { run: parent, op } = run.state.created.parent.as_ref()?;
        Some(format!("{parent} {op} {id} {}", run.state.status))
    });
    let children: Vec<String> = children.collect();
    let sql = "SELECT parent || ' ' || parent_op || ' ' || run || ' ' || status FROM children
        ORDER BY run";
    prop_assert_eq!(strings(script, sql), children);
    let sql = "SELECT run || ' ' || op || ' ' || status || ' ' || fire_at FROM timers
        ORDER BY run, op";
    prop_assert_eq!(strings(script, sql), timers);
    let runs = script.runs.iter().map(|(id, run)| {
        let output = run.state.output.as_ref().map(Json::as_str).unwrap_or_default();
        let says = run.state.head.custom_status.as_ref().map(Json::as_str).unwrap_or_default();
        let by = run.state.head.cancel.as_ref().and_then(|asked| asked.requester.by.clone());
        let by = by.unwrap_or_default();
        format!("{id} {} {} {output}{says}{by}", run.state.status, run.state.updated_at)
    });
    let runs: Vec<String> = runs.collect();
    let sql = "SELECT run || ' ' || status || ' ' || updated_at || ' ' || coalesce(output, '') ||
        coalesce(custom_status, '') || coalesce(cancel ->> '$.by', '') FROM runs ORDER BY run";
    prop_assert_eq!(strings(script, sql), runs);
    Ok(())
}

#[test]
fn a_run_of_a_newer_version_is_listed_and_named_and_spoils_no_other() {
    let mut script = Script::new();
    script.play(&[(0, 1), (1, 1), (0, 0), (1, 0)], 4);
    let connection = &script.file.connection;
    // Written by hand as a newer version would have: a good row of an unknown kind.
    let head = script.file.appender.head();
    let (seq, ts) = (head.seq.next(), head.ts.unwrap().next());
    let columns = tidemill_model::Columns { kind: "tide_turned", op: None, name: None, data: None };
    let hash = crate::codec::hash_columns(&mut Vec::new(), seq, &ts.to_bytes(), "r0", &columns);
    let sum = crate::sum_to_sql(head.sum.plus(hash));
    connection
        .execute(
            "INSERT INTO events VALUES (?1, ?2, 'r0', 'tide_turned', NULL, NULL, NULL, ?3)",
            (crate::to_sql(seq), ts.to_string(), sum),
        )
        .unwrap();
    verify(connection).unwrap();
    let run = RunId::new("r0").unwrap();
    let rows = query::events(connection, Some(&run), Seq::ZERO, 100).unwrap();
    assert_eq!(rows.last().unwrap().kind, "tide_turned");
    let shown = query::run_state(connection, &run, None).unwrap().unwrap();
    assert_eq!(shown.status, RunStatus::Blocked);
    let reason = shown.block_reason().unwrap();
    let logged = reason.logged.unwrap();
    assert!(logged.contains("unknown event kind `tide_turned`"), "{logged}");
    let before = query::run_state(connection, &run, Some(head.seq)).unwrap().unwrap();
    assert_eq!((before.unreadable, before.ops), (None, shown.ops), "what can be read is shown");
    let report = fsck(connection).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.is_whole() && !report.is_clean());
    assert_eq!(report.findings[0].kind, crate::FindingKind::Unreadable);
}

#[test]
fn lists_go_through_an_index_and_page_by_cursor() {
    let mut script = Script::new();
    script.play(&[(0, 1), (1, 1), (2, 1), (3, 1), (0, 0), (1, 0), (1, 246)], 2);
    let connection = &script.file.connection;
    let names = |filter: &query::RunFilter| {
        let found = query::runs(connection, filter).unwrap();
        found.iter().map(|run| run.id.to_string()).collect::<Vec<_>>()
    };
    let all = query::RunFilter { limit: 3, ..Default::default() };
    assert_eq!(names(&all), ["r3", "r2", "r1"]);
    let last = query::runs(connection, &all).unwrap().last().unwrap().seq;
    assert_eq!(names(&query::RunFilter { after: Some(last), ..all.clone() }), ["r0"]);
    let pending = query::RunFilter { status: Some(RunStatus::Pending), ..all.clone() };
    assert_eq!(names(&pending), ["r3", "r2"]);
    let unknown = query::RunFilter { workflow: Some(name("x")), ..all };
    assert_eq!(names(&unknown), Vec::<String>::new());
    let pending = due::in_status(connection, RunStatus::Pending, Seq::ZERO, 10).unwrap();
    let pending: Vec<_> = pending.iter().map(|run| run.run.to_string()).collect();
    assert_eq!(pending, ["r2", "r3"]);

    let plan = |sql: &str| strings_of_plan(&script, sql).join("\n");
    for sql in [
        "SELECT * FROM tidemill_runs WHERE status = 'x' AND seq < 9 ORDER BY seq DESC",
        "SELECT * FROM tidemill_runs WHERE workflow = 'x' AND seq < 9 ORDER BY seq DESC",
        "SELECT * FROM tidemill_runs WHERE awaited = 0 AND ended_seq IS NULL \
         AND parent IS NOT NULL AND seq > 0 ORDER BY seq",
        "SELECT * FROM tidemill_runs c JOIN tidemill_runs p ON p.run = c.parent \
         WHERE c.awaited = 1 AND c.ended_seq IS NOT NULL AND c.seq > 0 ORDER BY c.seq",
        "SELECT * FROM tidemill_timers WHERE (fire_at, run, op) > ('x', 'r', 1) \
         ORDER BY fire_at, run, op",
        "SELECT * FROM tidemill_signals WHERE run = 'x' AND key = 'y'",
        "SELECT * FROM tidemill_signals WHERE run = 'x' AND taken_seq IS NULL AND op = 7",
        "SELECT * FROM signals WHERE run = 'x'",
        "SELECT * FROM promises WHERE run = 'x'",
        "SELECT * FROM children WHERE parent = 'x'",
        "SELECT * FROM steps WHERE run = 'x'",
        "SELECT * FROM timers WHERE run = 'x'",
        "SELECT * FROM runs WHERE run = 'x'",
    ] {
        let plan = plan(sql);
        let scans = plan.lines().any(|line| line.starts_with("SCAN") && !line.ends_with("SCAN o"));
        assert!(!scans || !plan.contains("SCAN events"), "{sql}\n{plan}");
    }
}

/// What the writer asks for each signal and each drop must not depend on how many signals a run was
/// ever sent.
#[test]
fn the_signals_that_a_run_keeps_are_found_by_their_own_index() {
    let script = Script::new();
    for sql in crate::signals::OF_KEPT {
        let plan = strings_of_plan(&script, sql).join("\n");
        assert!(plan.contains("tidemill_signals_kept"), "{sql}\n{plan}");
    }
}

fn strings_of_plan(script: &Script, sql: &str) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = script.file.connection.prepare(&sql).unwrap();
    let parameters = vec![None::<i64>; statement.parameter_count()];
    let parameters = rusqlite::params_from_iter(parameters);
    let rows = statement.query_map(parameters, |row| row.get(3)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}
