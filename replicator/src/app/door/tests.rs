use tidemill_model::{DOCUMENT_VERSION, GateState, OldestBlocked, RunFigures, RunId, RunStatus};
use tokio::sync::watch;

use super::super::socket::AskingApp;
use super::*;
use crate::testing::{boot, epoch, instance, ms, node};

struct Fixture {
    _dir: tempfile::TempDir,
    door: AppDoor,
    post: Post,
}

impl Fixture {
    async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let (context, record) = NodeRecord::in_test(dir.path(), |_| {}).await;
        Fixture { _dir: dir, door: AppDoor::new(&context, &record), post: Post::default() }
    }

    /// An app asks, with this pid as the kernel shows it; its session.
    fn asked(&mut self, peer_pid: Option<u32>) -> (AttachAsked, AskingApp) {
        let (reply, app) = AttachReply::in_test();
        let request =
            AttachRequest { v: DOCUMENT_VERSION, pid: 7, boot: boot(1), epoch: Some(epoch(2)) };
        self.door.asked(request, peer_pid, reply, &mut self.post).unwrap();
        let Some(Input::Attach(asked)) = self.post.take() else { panic!("nobody asks") };
        (asked, app)
    }

    /// An app asks and is let in; its session, and the lines that it gets.
    fn attached(&mut self) -> (SessionId, watch::Receiver<LeaseLine>) {
        let (asked, mut app) = self.asked(None);
        assert!(self.door.accept(asked.session.clone(), line(10), &mut self.post));
        assert_eq!(self.post.take(), None);
        let (_, lines) = app.answer().unwrap().unwrap();
        (asked.session, lines)
    }
}

fn line(deadline_ms: u64) -> LeaseLine {
    LeaseLine::new(boot(1), ms(deadline_ms), GateState::Open)
}

fn lagging(deadline_ms: u64, lag_ms: u64) -> LeaseLine {
    LeaseLine { lag_ms: Some(lag_ms), ..line(deadline_ms) }
}

#[tokio::test]
async fn who_asks_is_told_to_the_supervisor_and_waits() {
    let mut fixture = Fixture::new().await;
    let (asked, mut app) = fixture.asked(Some(8));
    assert_eq!((asked.pid, asked.boot, asked.epoch), (8, boot(1), Some(epoch(2))));
    assert!(app.answer().is_none());
    let (other, _) = fixture.asked(None);
    assert_eq!(other.pid, 7, "in another container the kernel does not say");
    assert_ne!(other.session, asked.session);
}

#[tokio::test]
async fn an_app_that_is_let_in_learns_whose_file_it_has_and_until_when() {
    let mut fixture = Fixture::new().await;
    let (asked, mut app) = fixture.asked(None);
    assert!(fixture.door.accept(asked.session.clone(), line(10), &mut fixture.post));
    let (hello, lines) = app.answer().unwrap().unwrap();
    assert_eq!((hello.session, hello.node), (asked.session.clone(), node()));
    assert_eq!((hello.epoch, hello.instance), (epoch(3), instance(1)));
    assert_eq!(hello.log_version, Some(tidemill_eventlog::LOG_VERSION));
    assert_eq!(hello.fleet.map(|fleet| fleet.to_string()).as_deref(), Some("fleet"));
    assert_eq!(*lines.borrow(), line(10));
    assert!(!fixture.door.accept(asked.session, line(10), &mut fixture.post), "it is in already");
    assert_eq!(fixture.post.take(), None);
}

/// It may not have opened the file, so its end needs no cure.
#[tokio::test]
async fn an_app_that_has_gone_before_it_is_let_in_has_said_goodbye() {
    let mut fixture = Fixture::new().await;
    let (asked, app) = fixture.asked(None);
    drop(app);
    assert!(!fixture.door.accept(asked.session.clone(), line(10), &mut fixture.post));
    assert_eq!(fixture.post.take(), Some(Input::Detach(asked.session)));
    assert!(fixture.door.attachment.is_none());
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let mut fixture = Fixture::new().await;
    for (refusal, kind, words) in [
        (AttachRefusal::Taken { pid: 9 }, SocketErrorKind::Conflict, "process 9 has the file"),
        (AttachRefusal::NotReady, SocketErrorKind::Unavailable, "not ready yet"),
        (AttachRefusal::Leaving, SocketErrorKind::Unavailable, "releasing the node"),
        (AttachRefusal::OtherBoot, SocketErrorKind::Invalid, "under one kernel"),
        (AttachRefusal::Fenced, SocketErrorKind::Fenced, "epoch"),
    ] {
        let (asked, mut app) = fixture.asked(None);
        fixture.door.refuse(&asked.session, refusal);
        let error = app.answer().unwrap().unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.contains(words), "{error}");
        assert!(!fixture.door.accept(asked.session, line(10), &mut fixture.post));
    }
}

#[tokio::test]
async fn the_end_of_a_stream_ends_its_attachment_and_no_other() {
    let mut fixture = Fixture::new().await;
    let (session, mut lines) = fixture.attached();
    let other = SessionId::from_random([9; 16]);
    fixture.door.broken(other.clone(), &mut fixture.post);
    assert_eq!(fixture.post.take(), Some(Input::StreamClosed(other)));
    fixture.door.tell(line(20), None);
    assert_eq!(*lines.borrow_and_update(), line(20));
    fixture.door.broken(session.clone(), &mut fixture.post);
    assert_eq!(fixture.post.take(), Some(Input::StreamClosed(session)));
    assert!(lines.has_changed().is_err(), "nobody tells it anything more");
}

#[tokio::test]
async fn an_app_is_told_what_changed_and_a_lag_when_it_begins_to_matter_and_when_it_is_over() {
    let mut fixture = Fixture::new().await;
    fixture.door.tell(line(20), None);
    let (_, mut lines) = fixture.attached();
    let mut told = |line: LeaseLine, late: Option<u64>| {
        fixture.door.tell(line, late.map(ms));
        let is_new = lines.has_changed().unwrap();
        is_new.then(|| lines.borrow_and_update().clone())
    };
    assert_eq!(told(lagging(20, 100), None), Some(lagging(20, 100)), "another deadline");
    assert_eq!(told(lagging(20, 200), None), None, "a lag grows by itself");
    assert_eq!(told(lagging(20, 3_000), Some(5)), Some(lagging(20, 3_000)), "it begins to matter");
    assert_eq!(told(lagging(20, 4_000), Some(5)), None);
    assert_eq!(told(lagging(20, 3_500), Some(6)), Some(lagging(20, 3_500)), "it begins anew");
    assert_eq!(told(lagging(20, 0), None), Some(lagging(20, 0)), "it is over");
    let closed = LeaseLine { state: GateState::Closed, ..lagging(20, 0) };
    assert_eq!(told(closed.clone(), None), Some(closed));
}

#[tokio::test]
async fn what_the_attached_app_tells_of_its_runs_is_in_the_next_lease_and_stays_when_it_goes() {
    let mut fixture = Fixture::new().await;
    let (session, _lines) = fixture.attached();
    let context = Arc::clone(&fixture.door.context);
    assert_eq!(context.status().lease_status().runs, None);
    let at = tidemill_model::Timestamp::from_micros(1).unwrap();
    let reason = Some("\u{1b}[2J".repeat(1_000));
    let oldest = OldestBlocked { run: RunId::new("r1").unwrap(), since: None, reason };
    let runs = RunFigures {
        at,
        by_status: [(RunStatus::Blocked, 1)].into(),
        blocked: Some(1),
        oldest: Some(oldest),
        steps_per_minute: 3,
    };
    let told = FiguresRequest { session: session.clone(), runs: runs.clone() };
    fixture.door.figures(told.clone()).unwrap();
    let in_lease = context.status().lease_status().runs;
    assert_eq!(in_lease, Some(runs.bounded()), "a sidecar keeps the bounds itself");
    // Another app's, and those of one that has gone.
    let other = SessionId::from_random([9; 16]);
    let refused = fixture.door.figures(FiguresRequest { session: other, ..told.clone() });
    assert_eq!(refused.unwrap_err().kind, SocketErrorKind::Conflict);
    fixture.door.broken(session, &mut fixture.post);
    assert!(fixture.door.figures(told).is_err());
    assert_eq!(context.status().lease_status().runs, in_lease);
}
