use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_bucket::Gap;
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_model::{
    ApprovalRule, Base, BreakDoc, Epoch, Event, LogSum, NodeId, OldestBlocked, OpId, OpName,
    PromiseAnswer, PromiseTerms, RunFigures, RunId, RunStatus, Seq, Txid, Verdict,
};

use super::{Fold, Screen, TimelineOptions};
use crate::history::{BranchView, BucketHistory, EpochView, History, PointView};
use crate::testing::{at, created, file, file_of, run_id};
use crate::{Error, EventRange, NodeView, for_each_event, show, sql};

const PIPE: Screen = Screen::PIPE;

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_run_is_a_tree() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    check(
        &super::run(&show(&connection, &run_id("sweep"), None).unwrap(), &Fold::Long, PIPE),
        expect![[r#"
            sweep  sweep  suspended
            │  created    1970-01-01T00:00:01.000000Z
            │  labels     team=ml
            │  input      {"rates":[0.1]}
            ├─ 1 child trial → sweep.1  completed  10.000s
            │  │  created    1970-01-01T00:00:04.000000Z
            │  │  labels     team=ml
            │  │  input      0.1
            │  │  output     0.95
            │  └─ 1 step train  completed  5.000s
            │        attempt 1  failed after 1.000s: no data yet
            │        attempt 2  cut off by a crash
            │        attempt 3  completed after 2.000s
            │        2 checkpoints, the last {"epoch":2}
            │        output     {"accuracy":0.95}
            ├─ 2 step publish  failed  2.000s
            │     error      the registry refused
            └─ 3 timer sleep  waits until 1970-01-01T00:01:39.000000Z
        "#]],
    );
    let then = show(&connection, &run_id("sweep.1"), Some(Seq::new(9).unwrap())).unwrap();
    check(
        &super::run(&then, &Fold::Long, PIPE),
        expect![[r#"
            sweep.1  trial  running
            │  created    1970-01-01T00:00:04.000000Z
            │  labels     team=ml
            │  input      0.1
            └─ 1 step train  running
                  attempt 1  failed after 1.000s: no data yet
                  attempt 2  cut off by a crash
                  attempt 3  running
                  1 checkpoint, the last {"epoch":1}
        "#]],
    );
    let early = show(&connection, &run_id("sweep.1"), Some(Seq::new(1).unwrap())).unwrap_err();
    check(&early.to_string(), expect!["run `sweep.1` was not yet started at event 1"]);
    let missing = show(&connection, &run_id("other"), None).unwrap_err();
    check(
        &missing.to_string(),
        expect!["there is no run `other` in this source: `tidemill runs` lists them"],
    );
}

#[test]
fn an_open_promise_says_what_it_asks_of_whom_and_who_has_answered() {
    let (op, name) = (OpId::FIRST, OpName::new("publish").unwrap());
    let terms = PromiseTerms {
        message: Some("Publish it?".to_owned()),
        schema: None,
        deadline: Some(at(99)),
        approval: Some(ApprovalRule {
            needs: 2,
            of: vec!["ada".to_owned(), "ben".to_owned(), "cyn".to_owned()],
            not_by: Some("cyn".to_owned()),
        }),
    };
    let yes =
        PromiseAnswer { by: Some("ada".to_owned()), ..PromiseAnswer::new(Verdict::Resolved, None) };
    let (_dir, path) = file_of(vec![
        ("draft", created("publish", "null", None)),
        ("draft", Event::RunStarted { epoch: None, attempt: 1 }),
        ("draft", Event::PromiseStarted { op, name: name.clone(), terms: Box::new(terms) }),
        ("draft", Event::PromiseAnswered { op, name, answer: yes }),
    ]);
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    check(
        &super::run(&show(&connection, &run_id("draft"), None).unwrap(), &Fold::Long, PIPE),
        expect![[r#"
            draft  publish  suspended
            │  created    1970-01-01T00:00:01.000000Z
            │  labels     team=ml
            │  input      null
            └─ 1 promise publish  open
                  asks       Publish it?
                  needs      2 of ada, ben, cyn; not cyn, who started the run
                  answered   resolved by ada at 1970-01-01T00:00:04.000000Z
                  until      1970-01-01T00:01:39.000000Z
        "#]],
    );
}

#[test]
fn runs_are_a_table() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    check(
        &super::runs(&query::runs(&connection, &filter).unwrap(), PIPE),
        expect![[r#"
            RUN      WORKFLOW  STATUS     STEPS  CREATED                      TOOK    PARENT  LABELS
            sweep.1  trial     completed  -      1970-01-01T00:00:04.000000Z  8.000s  sweep   team=ml
            sweep    sweep     suspended  -      1970-01-01T00:00:01.000000Z  -       -       team=ml
        "#]],
    );
    check(
        &super::runs(&[], PIPE),
        expect![[r#"
        no runs
    "#]],
    );
}

#[test]
fn what_a_step_does_is_told_in_words() {
    let (_dir, path) = crate::testing::file_of_states();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    let mut listed = query::runs(&connection, &filter).unwrap();
    query::add_activity(&connection, &mut listed).unwrap();
    check(
        &super::runs(&listed, PIPE),
        expect![[r#"
        RUN      WORKFLOW  STATUS   STEPS                                                     CREATED                      TOOK  PARENT  LABELS
        held     trial     running  ended, held                                               1970-01-01T00:00:15.000000Z  -     -       team=ml
        runs     trial     running  running                                                   1970-01-01T00:00:12.000000Z  -     -       team=ml
        queued   trial     running  queued                                                    1970-01-01T00:00:09.000000Z  -     -       team=ml
        waits    trial     running  waits until 1970-01-01T00:01:39.000000Z (attempt 2 of 5)  1970-01-01T00:00:05.000000Z  -     -       team=ml
        crashed  trial     running  cut off by a crash                                        1970-01-01T00:00:01.000000Z  -     -       team=ml
    "#]],
    );
    let mut steps = String::from("steps\n");
    for run in ["crashed", "waits", "queued", "runs", "held"] {
        let tree = super::run(&show(&connection, &run_id(run), None).unwrap(), &Fold::Long, PIPE);
        steps += tree.split_once("└─ ").unwrap().1;
    }
    check(
        &steps,
        expect![[r#"
        steps
        1 step train  cut off by a crash, last heard of after 1.000s
              1 checkpoint, the last 7
        1 step train  waits until 1970-01-01T00:01:39.000000Z (attempt 2 of 5)
              attempt 1  failed after 1.000s: no data yet
              attempt 2  waits until 1970-01-01T00:01:39.000000Z
        1 step train  queued
        1 step train  running
        1 step train  ended, held after 1.000s: no data
    "#]],
    );
    // At this earlier event its process was alive.
    let then = show(&connection, &run_id("crashed"), Some(Seq::new(4).unwrap())).unwrap();
    assert_eq!(then.operations[0].attempts[0].state, "running");
}

#[test]
fn who_asked_and_why_is_told_in_lists() {
    let (_dir, path) = crate::testing::file_of_asks();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    let mut listed = query::runs(&connection, &filter).unwrap();
    query::add_activity(&connection, &mut listed).unwrap();
    check(
        &super::runs(&listed, PIPE),
        expect![[r#"
        RUN         WORKFLOW  STATUS      STEPS    CREATED                      TOOK    PARENT  LABELS   REASON
        completed   order     completed   -        1970-01-01T00:00:25.000000Z  4.000s  -       team=ml
        terminated  order     cancelled   -        1970-01-01T00:00:19.000000Z  5.000s  -       team=ml  it was terminated by ada: wrong input
        cancelled   order     cancelled   -        1970-01-01T00:00:14.000000Z  4.000s  -       team=ml  `ship` was cancelled: the run was asked to end by ada: wrong input
        paused      order     paused      -        1970-01-01T00:00:10.000000Z  -       -       team=ml
        blocked     order     blocked     -        1970-01-01T00:00:05.000000Z  -       -       team=ml  the workflow panicked: no
        cancelling  order     cancelling  running  1970-01-01T00:00:01.000000Z  -       -       team=ml
    "#]],
    );
    check_asking_events(&connection);
}

#[test]
fn who_asked_and_why_is_shown() {
    let (_dir, path) = crate::testing::file_of_asks();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let mut shown = String::from("shown\n");
    for run in ["cancelling", "blocked", "paused", "cancelled", "terminated", "completed"] {
        let tree = super::run(&show(&connection, &run_id(run), None).unwrap(), &Fold::Long, PIPE);
        shown += &tree;
    }
    check(
        &shown,
        expect![[r#"
        shown
        cancelling  order  cancelling
        │  created    1970-01-01T00:00:01.000000Z
        │  labels     team=ml
        │  input      1
        │  asked      to end at 1970-01-01T00:00:04.000000Z by ada: wrong input of team b
        └─ 1 step charge  running
        blocked  order  blocked
        │  created    1970-01-01T00:00:05.000000Z
        │  labels     team=ml
        │  input      1
        │  asked      to end at 1970-01-01T00:00:08.000000Z by ada: wrong input of team b
        │             its code has not been told yet
        │  blocked    the workflow panicked: no
        │  advice     mend it
        └─ 1 timer ship  waits until 1970-01-01T00:01:39.000000Z
        paused  order  paused
        │  created    1970-01-01T00:00:10.000000Z
        │  labels     team=ml
        │  input      1
        │  paused     no bank
        └─ 1 timer ship  waits until 1970-01-01T00:01:39.000000Z
        cancelled  order  cancelled  4.000s
        │  created    1970-01-01T00:00:14.000000Z
        │  labels     team=ml
        │  input      1
        │  error      `ship` was cancelled: the run was asked to end by ada: wrong input
        │  asked      to end at 1970-01-01T00:00:17.000000Z by ada: wrong input of team b
        └─ 1 timer ship  cancelled  1.000s
        terminated  order  cancelled  5.000s
        │  created    1970-01-01T00:00:19.000000Z
        │  labels     team=ml
        │  input      1
        │  error      it was terminated by ada: wrong input
        │  asked      to end at 1970-01-01T00:00:22.000000Z by ada: wrong input of team b
        │  ended      without its code
        └─ 1 step charge  dropped  2.000s
        completed  order  completed  4.000s
        │  created    1970-01-01T00:00:25.000000Z
        │  labels     team=ml
        │  input      1
        │  output     7
        │  asked      to end at 1970-01-01T00:00:28.000000Z by ada: wrong input of team b
        └─ 1 timer ship  cancelled  1.000s
    "#]],
    );
}

fn check_asking_events(connection: &rusqlite::Connection) {
    let mut events = String::from("events\n");
    let range = EventRange { after: Seq::ZERO, until: None, limit: 100 };
    for_each_event::<Error>(connection, None, range, |event| {
        let line = super::event_line(&event);
        let told = ["cancel_", "run_paused", "run_failed"].iter().any(|kind| line.contains(kind));
        events += if told { &line } else { "" };
        Ok(())
    })
    .unwrap();
    check(
        &events,
        expect![[r#"
        events
              4  1970-01-01T00:00:04.000000Z  cancelling  cancel_requested  {"requester":{"by":"ada","reason":"wrong input\nof team b"}}
              8  1970-01-01T00:00:08.000000Z  blocked  cancel_held  {"requester":{"by":"ada","reason":"wrong input\nof team b"}}
             13  1970-01-01T00:00:13.000000Z  paused  run_paused  {"requester":{"reason":"no bank"}}
             17  1970-01-01T00:00:17.000000Z  cancelled  cancel_requested  {"requester":{"by":"ada","reason":"wrong input\nof team b"},"resolves":{"1":0}}
             18  1970-01-01T00:00:18.000000Z  cancelled  run_failed  {"error":{"kind":"cancelled","message":"`ship` was cancelled: the run was asked to end by ada: wrong…
             22  1970-01-01T00:00:22.000000Z  terminated  cancel_held  {"requester":{"by":"ada","reason":"wrong input\nof team b"}}
             24  1970-01-01T00:00:24.000000Z  terminated  run_failed  {"error":{"kind":"cancelled","message":"it was terminated by ada: wrong input"},"terminated":true}
             28  1970-01-01T00:00:28.000000Z  completed  cancel_requested  {"requester":{"by":"ada","reason":"wrong input\nof team b"},"resolves":{"1":0}}
    "#]],
    );
}

#[test]
fn an_event_is_a_line() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let mut text = String::from("events\n");
    let run = run_id("sweep.1");
    let range = EventRange { after: Seq::new(6).unwrap(), until: None, limit: 3 };
    for_each_event::<Error>(&connection, Some(&run), range, |event| {
        text += &super::event_line(&event);
        Ok(())
    })
    .unwrap();
    check(
        &text,
        expect![[r#"
            events
                  7  1970-01-01T00:00:07.000000Z  sweep.1  step_attempt_failed 1 train  {"attempt":1,"error":{"kind":"failed","message":"no data yet"},"next_at":"1970-01-01T00:00:08.000000…
                  8  1970-01-01T00:00:08.000000Z  sweep.1  checkpoint 1 train  {"attempt":2,"value":{"epoch":1}}
                  9  1970-01-01T00:00:09.000000Z  sweep.1  step_restarted 1 train  {"attempt":3}
        "#]],
    );
}

#[test]
fn an_answer_is_a_table() {
    let (_dir, path) = file();
    let mut connection = tidemill_eventlog::open_any(&path).unwrap();
    let sql = "SELECT run, status, error, last_checkpoint FROM steps ORDER BY run";
    let limits = sql::Limits { rows: 10, bytes: usize::MAX, time: Duration::from_secs(60) };
    let table = sql::query(&mut connection, sql, limits).unwrap();
    check(
        &super::answer(&table, PIPE),
        expect![[r#"
        run      status     error                                               last_checkpoint
        sweep    failed     {"kind":"failed","message":"the registry refused"}  NULL
        sweep.1  completed  NULL                                                {"epoch":2}
    "#]],
    );
}

#[test]
fn a_report_names_what_is_wrong() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let mut report = tidemill_eventlog::fsck(&connection).unwrap();
    check(
        &super::fsck_report(&report),
        expect![[r#"
            16 events, 2 runs, up to event 16 of 1970-01-01T00:00:16.000000Z
            schema 4, node none, epoch none
            clean
        "#]],
    );
    report.findings.push(tidemill_eventlog::Finding {
        kind: tidemill_eventlog::FindingKind::Unreadable,
        what: "run r: event 5: operation 1 starts a second time".into(),
    });
    let text = super::fsck_report(&report);
    let last = "starts a second time\nthe file is whole; runs that this version cannot read are \
                blocked\n";
    assert!(text.ends_with(last), "{text}");
    report.findings.push(tidemill_eventlog::Finding {
        kind: tidemill_eventlog::FindingKind::Log,
        what: "seq=3: its checksum does not follow".into(),
    });
    assert!(super::fsck_report(&report).ends_with("log: seq=3: its checksum does not follow\n"));
}

#[test]
fn nodes_are_a_table() {
    let node = |name: &str, state: &str, epoch: Option<u64>| NodeView {
        node: NodeId::new(name).unwrap(),
        state: state.into(),
        problem: None,
        epoch: epoch.map(|epoch| Epoch::new(epoch).unwrap()),
        holder: None,
        heartbeat_at: None,
        heartbeat_age_ms: epoch.map(|_| 1_250),
        wal_lag_bytes: epoch.map(|_| 4_120),
        covered: None,
        runs: None,
    };
    let figures = |counts: &[(RunStatus, u64)], oldest| {
        Some(RunFigures::new(at(1), counts.iter().copied().collect(), oldest, 0))
    };
    let blocked = OldestBlocked {
        run: RunId::new("r1").unwrap(),
        since: Some(at(1)),
        reason: Some("the workflow gave up".to_owned()),
    };
    let counts = [
        (RunStatus::Running, 5),
        (RunStatus::Blocked, 2),
        (RunStatus::Completed, 1_200),
        (RunStatus::Failed, 4),
    ];
    let nodes = [
        NodeView { runs: figures(&counts, Some(blocked)), ..node("n1", "ready", Some(3)) },
        NodeView { runs: figures(&[], None), ..node("n2", "expired", Some(1)) },
        node("batch-7", "unclaimed", None),
    ];
    check(
        &super::nodes(&nodes),
        expect![[r#"
            NODE     STATE      EPOCH  HOLDER  HEARTBEAT  UNSHIPPED  RUNS                              PROBLEM
            n1       ready      3      -       1s ago     4120 B     2 blocked, 5 running, 1204 ended  r1 is blocked since 1970-01-01T00:00:01.000000Z: the workflow gave up
            n2       expired    1      -       1s ago     4120 B     none
            batch-7  unclaimed  -      -       -          -          -
        "#]],
    );
}

fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

fn epoch(n: u64, base: Option<Base>, points: u64, lineage: u64) -> EpochView {
    let point = |t| PointView {
        moment: format!("e{n}:{}", txid(t)),
        txid: txid(t),
        at: at(10),
        lineage: t <= lineage,
    };
    EpochView {
        epoch: Epoch::new(n).unwrap(),
        begun_at: Some(at(9)),
        instance: None,
        host: None,
        base,
        given_up: None,
        points: (1..=points).map(point).collect(),
        gaps: Vec::new(),
        breaks: Vec::new(),
        branches: Vec::new(),
    }
}

#[test]
fn a_timeline_shows_points_gaps_breaks_and_branches() {
    let broken = BreakDoc {
        v: 1,
        after: Some(txid(2)),
        until: Some(txid(4)),
        reason: "the app was killed".into(),
        at: at(10),
        unknown: serde_json::Map::new(),
    };
    let first = EpochView {
        gaps: vec![Gap { after: Some(txid(1)), until: None }],
        breaks: vec![broken.clone(), BreakDoc { until: None, ..broken }],
        branches: vec![BranchView { epoch: Epoch::new(2).unwrap(), txid: txid(2) }],
        ..epoch(1, None, 3, 2)
    };
    let base = Base::Restored {
        epoch: Epoch::FIRST,
        txid: txid(2),
        seq: Seq::new(40).unwrap(),
        sum: LogSum::ZERO,
    };
    let history = History::Bucket(BucketHistory {
        node: "s3://backups/fleet/n1".into(),
        latest: Some("e2:000000000000001e".into()),
        epochs: vec![first, epoch(2, Some(base), 30, 30)],
    });
    check(
        &super::history(&history, TimelineOptions::default(), PIPE),
        expect![[r#"
            s3://backups/fleet/n1  2 epochs, 33 points
            latest is @e2:000000000000001e

            epoch 2  began 1970-01-01T00:00:09.000000Z: taken over, from @e1:0000000000000002 (event 40)  [30 points]
              @e2:000000000000001e  1970-01-01T00:00:10.000000Z
              @e2:000000000000001d  1970-01-01T00:00:10.000000Z
              @e2:000000000000001c  1970-01-01T00:00:10.000000Z
              @e2:000000000000001b  1970-01-01T00:00:10.000000Z
              @e2:000000000000001a  1970-01-01T00:00:10.000000Z
              @e2:0000000000000019  1970-01-01T00:00:10.000000Z
              @e2:0000000000000018  1970-01-01T00:00:10.000000Z
              @e2:0000000000000017  1970-01-01T00:00:10.000000Z
              @e2:0000000000000016  1970-01-01T00:00:10.000000Z
              @e2:0000000000000015  1970-01-01T00:00:10.000000Z
              … 20 older, --all shows them

            epoch 1  began 1970-01-01T00:00:09.000000Z: a new node, empty  [3 points, 1 left behind]
              gap     after 0000000000000001: files are missing
              break   between 0000000000000002 and 0000000000000004: the app was killed
              break   after 0000000000000002, until it is repaired: the app was killed
        "#]],
    );
    let all = TimelineOptions { all: true, ..TimelineOptions::default() };
    let whole = super::history(&history, all, PIPE);
    assert_eq!(whole.matches("  @e").count(), 33, "{whole}");
    let turned = TimelineOptions { all: true, oldest_first: true };
    let turned = super::history(&history, turned, PIPE);
    let places = ["epoch 1 ", "@e1:0000000000000003", "epoch 2 ", "@e2:0000000000000001 "];
    let found: Vec<_> = places.iter().map(|place| turned.find(place).unwrap()).collect();
    assert!(found.is_sorted(), "{turned}");
}

/// What 34 hand-overs leave is on one screen.
#[test]
fn a_timeline_of_many_epochs_is_folded() {
    let base = |n| Base::Restored {
        epoch: Epoch::new(n - 1).unwrap(),
        txid: txid(3),
        seq: Seq::new(n).unwrap(),
        sum: LogSum::ZERO,
    };
    let epochs = (1..=34).map(|n| epoch(n, (n > 1).then(|| base(n)), 3, 3)).collect();
    let latest = Some("e34:0000000000000003".to_owned());
    let node = "s3://backups/fleet/n1".into();
    let history = History::Bucket(BucketHistory { node, latest, epochs });
    let text = super::history(&history, TimelineOptions::default(), PIPE);
    assert_eq!(text.lines().count(), 19, "{text}");
    assert!(text.contains("… 23 older epochs, --all shows everything"), "{text}");
    assert!(text.find("epoch 34 ").unwrap() < text.find("epoch 33 ").unwrap(), "{text}");
}

#[test]
fn a_long_run_is_folded_around_what_a_person_looks_for() {
    let (_dir, path) = crate::testing::file_of_steps(200, &[50, 51, 120]);
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let view = show(&connection, &run_id("long"), None).unwrap();
    let text = super::run(&view, &Fold::Long, PIPE);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("error")).collect();
    check(
        &lines[3..].join("\n"),
        expect![[r#"
        │  input      0.1
        ├─ 1 step work  completed  1.000s
        │     output     1
        ├─ 2 step work  completed  1.000s
        │     output     1
        ├─ 3 step work  completed  1.000s
        │     output     1
        ├─ … 4 to 49: 46 completed; --all shows them
        ├─ 50 step work  failed  1.000s
        ├─ 51 step work  failed  1.000s
        ├─ … 52 to 119: 68 completed; --all shows them
        ├─ 120 step work  failed  1.000s
        ├─ … 121 to 192: 72 completed; --all shows them
        ├─ 193 step work  completed  1.000s
        │     output     1
        ├─ 194 step work  completed  1.000s
        │     output     1
        ├─ 195 step work  completed  1.000s
        │     output     1
        ├─ 196 step work  completed  1.000s
        │     output     1
        ├─ 197 step work  completed  1.000s
        │     output     1
        ├─ 198 step work  completed  1.000s
        │     output     1
        ├─ 199 step work  completed  1.000s
        │     output     1
        └─ 200 step work  completed  1.000s
              output     1"#]],
    );
    let all = super::run(&view, &Fold::All, PIPE);
    assert_eq!(all.matches(" step work").count(), 200);
    let op = OpId::new(50).unwrap();
    let mut one = view;
    crate::only_operation(&mut one, op).unwrap();
    let text = super::run(&one, &Fold::Operation(op), PIPE);
    assert!(text.contains("input      {\"item\":50}"), "{text}");
}

#[test]
fn the_past_of_a_file_is_what_it_was_then() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let filter = RunFilter { limit: 10, ..RunFilter::default() };
    let newest = tidemill_eventlog::head(&connection).unwrap().seq.get();
    for until in 1..=newest {
        let until = Seq::new(until).unwrap();
        let then = tidemill_eventlog::past(&connection, until).unwrap();
        assert!(tidemill_eventlog::fsck(&then).unwrap().is_clean(), "at {until}");
        for run in query::runs(&then, &filter).unwrap() {
            let shown = show(&connection, &run.id, Some(until)).unwrap();
            assert_eq!((run.status, run.ended_at), (shown.status, shown.ended_at), "at {until}");
        }
    }
}

#[test]
fn a_terminal_shows_a_run_in_its_width() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let view = show(&connection, &run_id("sweep"), None).unwrap();
    let narrow = Screen { width: Some(40), colour: true };
    let text = super::run(&view, &Fold::Long, narrow);
    assert!(text.contains("\u{1b}[1;31mfailed\u{1b}[0m"), "{text}");
    assert!(text.contains("the registry refused"), "an error is never cut: {text}");
}

#[test]
fn durations_have_two_units() {
    let text = |seconds: u64| super::duration(Duration::from_secs(seconds));
    assert_eq!(super::duration(Duration::from_millis(1_234)), "1.234s");
    assert_eq!(super::duration(Duration::from_micros(850)), "850µs");
    assert_eq!(super::duration(Duration::from_micros(1_000)), "0.001s");
    assert_eq!([text(125), text(11_220), text(360_000)], ["2m 05s", "3h 07m", "4d 04h"]);
}

#[test]
fn what_is_too_long_is_marked() {
    assert_eq!(super::short("ab\ncd", 10), "ab cd");
    assert_eq!(super::short("äöüß", 3), "äöü…");
}
