use std::collections::BTreeMap;
use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_model::{SessionId, SidecarState, Stage};

use super::*;
use crate::ship::barrier::BarrierRefusal;
use crate::supervise::{AppLockTry, AttachAsked, EntryPoint, EpochTerms, Input, Restart};
use crate::testing::{boot, epoch, good, ms, txid};

/// Owners that record the effects that they get, and answer as the test prescribes.
#[derive(Default)]
struct Fakes {
    log: Vec<String>,
    /// The answers to each effect, all given at once and in order.
    answers: BTreeMap<String, Vec<Input>>,
    /// The effect on the file that fails and ends the loop; `None` if none fails.
    fails_at: Option<FileEffect>,
}

impl Fakes {
    fn note(&mut self, owner: &str, effect: &impl std::fmt::Debug, post: &mut Post) {
        let line = format!("{owner} {effect:?}");
        for answer in self.answers.get(&line).into_iter().flatten() {
            post.tell(answer.clone());
        }
        self.log.push(line);
    }
}

impl Owners for Fakes {
    type Error = FileEffect;

    fn litestream(&mut self, effect: LitestreamEffect, post: &mut Post) {
        self.note("litestream", &effect, post);
    }

    fn barriers(&mut self, effect: BarriersEffect, post: &mut Post) {
        self.note("barriers", &effect, post);
    }

    fn app(&mut self, effect: AppEffect, post: &mut Post) {
        self.note("app", &effect, post);
    }

    fn file(&mut self, effect: FileEffect, post: &mut Post) -> Result<(), FileEffect> {
        self.note("file", &effect, post);
        if self.fails_at == Some(effect) { Err(effect) } else { Ok(()) }
    }

    fn epoch(&mut self, effect: EpochEffect, post: &mut Post) {
        self.note("epoch", &effect, post);
    }
}

/// Owners for whom every effect succeeds at once.
fn willing() -> Fakes {
    let until = BootTime::from_nanos(u64::MAX);
    let stage = |stage, good| EpochEffect::SaveStage { stage, good, hurry: false };
    let open = EpochEffect::WriteBreak { after: Some(txid(6)), until: None };
    let closed = EpochEffect::WriteBreak { after: Some(txid(6)), until: Some(txid(6)) };
    let answers = [
        ("file", format!("{:?}", FileEffect::TryAppLock), Input::AppLock(AppLockTry::Taken)),
        ("file", format!("{:?}", FileEffect::Checkpoint), Input::Checkpointed { busy: false }),
        ("file", format!("{:?}", FileEffect::MoveAway), Input::MovedAway),
        (
            "file",
            format!("{:?}", FileEffect::AskBucket { patiently: false }),
            Input::BucketHolds(true),
        ),
        ("litestream", format!("{:?}", LitestreamEffect::Spawn), Input::LitestreamUp),
        ("litestream", format!("{:?}", LitestreamEffect::Kill), Input::LitestreamEnded),
        ("litestream", format!("{:?}", LitestreamEffect::Stop), Input::LitestreamEnded),
        (
            "barriers",
            format!("{:?}", BarriersEffect::Ask { until }),
            Input::BarrierCounted(good(6, 10)),
        ),
        ("epoch", format!("{:?}", stage(Stage::Shipping, Some(good(6, 10)))), Input::StageSaved),
        ("epoch", format!("{:?}", stage(Stage::Cure, None)), Input::StageSaved),
        ("epoch", format!("{open:?}"), Input::BreakWritten(true)),
        ("epoch", format!("{closed:?}"), Input::BreakWritten(true)),
        ("epoch", format!("{:?}", EpochEffect::Release { until: ms(9) }), Input::Released(true)),
        ("app", format!("{:?}", AppEffect::StartCmd), Input::CmdStarted),
    ];
    let answers = answers.into_iter();
    let answers =
        answers.map(|(owner, effect, answer)| (format!("{owner} {effect}"), vec![answer]));
    Fakes { answers: answers.collect(), ..Fakes::default() }
}

fn routes(cmd: bool) -> Routes {
    Routes::new(Supervisor::new(EpochTerms {
        epoch: epoch(3),
        boot: boot(1),
        from: EntryPoint::Base,
        last_good: None,
        cmd,
        leave_within: Duration::from_secs(25),
        hang_within: Duration::from_secs(30),
    }))
}

/// Posts `input`, delivers until nothing waits, and compares the effects that the owners got.
fn deliver(routes: &mut Routes, owners: &mut Fakes, input: Input, expected: &Expect) {
    routes.post.tell(input);
    let ending = routes.deliver(owners, || ms(1)).unwrap();
    let mut log = std::mem::take(&mut owners.log).join("\n");
    if let Some(ending) = ending {
        log += &format!("\n{ending:?}");
    }
    expected.assert_eq(&log);
}

fn session() -> SessionId {
    SessionId::from_random([1; 16])
}

fn attach() -> Input {
    let (session, boot) = (session(), boot(1));
    Input::Attach(AttachAsked { session, pid: 40, boot, epoch: None })
}

#[test]
fn each_effect_goes_to_its_owner_and_each_answer_back_until_the_node_is_ready() {
    let (mut routes, mut owners) = (routes(true), willing());
    deliver(
        &mut routes,
        &mut owners,
        Input::Tick,
        &expect![[r#"
        file TryAppLock
        file Checkpoint
        litestream Spawn
        barriers Open { copy: true }
        barriers Ask { until: BootTime(18446744073709551615) }
        epoch SaveStage { stage: Shipping, good: Some(LastGood { txid: Txid(6), seq: Seq(10), sum: LogSum(10000) }), hurry: false }
        file ReturnAppLock
        app StartCmd"#]],
    );
    assert_eq!(routes.supervisor.state(), SidecarState::Ready);
    deliver(
        &mut routes,
        &mut owners,
        attach(),
        &expect![[r#"
        app Accept(SessionId("01010101010101010101010101010101"))
        barriers Open { copy: false }"#]],
    );
}

#[test]
fn an_app_that_dies_is_cured_by_owners_that_answer_at_once() {
    let (mut routes, mut owners) = (routes(false), willing());
    routes.post.tell(Input::Tick);
    routes.deliver(&mut owners, || ms(1)).unwrap();
    routes.post.tell(attach());
    routes.deliver(&mut owners, || ms(1)).unwrap();
    owners.log.clear();
    routes.post.tell(Input::StreamClosed(session()));
    routes.deliver(&mut owners, || ms(2)).unwrap();
    routes.post.tell(Input::Tick);
    routes.deliver(&mut owners, || ms(200)).unwrap();
    assert_eq!(routes.supervisor.state(), SidecarState::Ready);
    expect![[r#"
        barriers Pause
        file TryAppLock
        barriers Pause
        litestream Kill
        epoch SaveStage { stage: Cure, good: None, hurry: false }
        epoch WriteBreak { after: Some(Txid(6)), until: None }
        file Checkpoint
        litestream Spawn
        barriers Open { copy: true }
        barriers Ask { until: BootTime(18446744073709551615) }
        epoch WriteBreak { after: Some(Txid(6)), until: Some(Txid(6)) }
        epoch SaveStage { stage: Shipping, good: Some(LastGood { txid: Txid(6), seq: Seq(10), sum: LogSum(10000) }), hurry: false }
        file ReturnAppLock"#]].assert_eq(&owners.log.join("\n"));
}

#[test]
fn what_is_told_meanwhile_waits_its_turn() {
    let (mut routes, mut owners) = (routes(true), willing());
    // While the first copy is still being made a signal asks for the end, and the lease is lost.
    routes.post.tell(Input::Tick);
    routes.post.tell(Input::Terminate);
    deliver(
        &mut routes,
        &mut owners,
        Input::Fenced,
        &expect![[r#"
        file TryAppLock
        barriers Fence
        epoch SaveStage { stage: Fenced, good: None, hurry: true }
        file TryAppLock
        file AskBucket { patiently: false }
        file MoveAway
        Fenced"#]],
    );
}

#[test]
fn a_refusal_reaches_the_supervisor_and_nobody_else() {
    let (mut routes, mut owners) = (routes(false), willing());
    routes.post.tell(Input::Tick);
    routes.deliver(&mut owners, || ms(1)).unwrap();
    owners.log.clear();
    deliver(
        &mut routes,
        &mut owners,
        Input::BarrierRefused(BarrierRefusal::TooMany),
        &expect![[r#""#]],
    );
    deliver(
        &mut routes,
        &mut owners,
        Input::RestartLitestream(Restart::Credentials),
        &expect![[r#"
            barriers Pause
            litestream Kill
            barriers Pause"#]],
    );
    assert!(owners.log.is_empty());
}

#[test]
fn an_owner_that_cannot_go_on_ends_the_delivery() {
    let mut owners = Fakes { fails_at: Some(FileEffect::Checkpoint), ..willing() };
    let mut routes = routes(false);
    routes.post.tell(Input::Tick);
    let failed = routes.deliver(&mut owners, || ms(1));
    assert_eq!(failed, Err(FileEffect::Checkpoint));
    assert_eq!(owners.log.last().unwrap(), "file Checkpoint");
}

#[test]
fn after_the_end_nothing_is_asked_for() {
    let (mut routes, mut owners) = (routes(false), willing());
    let stage = EpochEffect::SaveStage { stage: Stage::Fenced, good: None, hurry: false };
    owners.answers.insert(format!("epoch {stage:?}"), vec![Input::StageSaved]);
    routes.post.tell(Input::Tick);
    routes.deliver(&mut owners, || ms(1)).unwrap();
    routes.post.tell(Input::Fenced);
    assert_eq!(routes.deliver(&mut owners, || ms(2)), Ok(Some(EpochEnding::Fenced)));
    owners.log.clear();
    for late in [attach(), Input::LitestreamEnded, Input::Terminate, Input::CmdEnded(1)] {
        routes.post.tell(late);
    }
    assert_eq!(routes.deliver(&mut owners, || ms(3)), Ok(Some(EpochEnding::Fenced)));
    assert!(owners.log.is_empty(), "{:?}", owners.log);
}
