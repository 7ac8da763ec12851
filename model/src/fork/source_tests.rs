//! Histories that are sent: what fits is forked as if it were here, and nothing else gets through.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{candidate, created, done, failed, fitting, name, numbered, op, step, who};
use super::{ForkFromRequest, ForkLog, ForkRequest, ForkSource, MadeFork, RunTerms};
use crate::error_kind::ErrorKind;
use crate::event::{EncodedEvent, Event};
use crate::event_data::{BlockReasonKind, ForkOrigin, RunCreated};
use crate::json::Json;
use crate::position::{LogSum, Seq};
use crate::run_status::RunStatus;
use crate::run_view::EventView;
use crate::time::Timestamp;

fn origin() -> ForkOrigin {
    ForkOrigin {
        source: "s3://bucket/fleet/n1@e1:2a".into(),
        node: Some("n1".parse().unwrap()),
        epoch: None,
        seq: Seq::new(99).unwrap(),
        at: Timestamp::from_micros(7).unwrap(),
        taken: None,
    }
}

fn source(events: &[Event]) -> ForkSource {
    let view = |(seq, event): &(Seq, &Event)| {
        let columns = event.columns();
        EventView {
            seq: *seq,
            ts: Timestamp::from_micros(1).unwrap(),
            run: Some(who().from),
            kind: columns.kind.to_owned(),
            op: columns.op,
            name: columns.name.map(str::to_owned),
            data: columns.data.as_deref().map(|data| Json::parse(data).unwrap()),
            sum: LogSum::ZERO,
        }
    };
    ForkSource {
        run: who().from,
        origin: origin(),
        exact_from: Some(Seq::ZERO),
        given: BTreeMap::new(),
        events: numbered(events).iter().map(view).collect(),
    }
}

fn refused(source: &ForkSource) -> (ErrorKind, String) {
    let error = source.make(&ForkRequest::at("0"), &who(), false).unwrap_err();
    (error.kind(), error.to_string())
}

fn parked(fork: &MadeFork) -> Vec<String> {
    let mut said = Vec::new();
    for run in std::iter::once(&fork.run).chain(&fork.children) {
        let Some(Event::RunBlocked { reason }) = run.events.last().map(EncodedEvent::event) else {
            panic!("{} is not parked", run.id)
        };
        assert_eq!((reason.kind, run.status), (BlockReasonKind::Parked, RunStatus::Blocked));
        said.push(reason.why());
    }
    said
}

#[test]
fn a_fork_of_elsewhere_is_parked_with_its_children_and_says_where_it_is_from() {
    let child = |id: u32| Event::ChildStarted {
        op: op(id),
        name: name(op(id)),
        child: format!("old.{id}").parse().unwrap(),
        input: Json::null(),
        outlives_parent: false,
    };
    let mut source = source(&[created(), child(1), step(2), done(2)]);
    let labels = BTreeMap::from([("kind".to_owned(), "trial".to_owned())]);
    let terms = RunTerms { labels: labels.clone(), within_ms: Some(7) };
    source.given.insert("old.1".parse().unwrap(), terms);
    let request = ForkRequest::at("2");
    let fork = source.make(&request, &who(), false).unwrap();
    let from = "n1 up to event 99 (s3://bucket/fleet/n1@e1:2a)";
    let expected = [
        format!("it is parked: it is a fork of run old of {from}"),
        format!("it is parked: it begins anew with new, a fork of run old of {from}"),
    ];
    assert_eq!(parked(&fork), expected);
    assert_eq!(fork.children[0].created.labels, labels);
    assert_eq!(fork.children[0].created.within_ms, None, "its time would pass while it is parked");
    let made = fork.run.created.forked.unwrap().origin.unwrap();
    assert!(made.taken.is_some());
    assert_eq!(ForkOrigin { taken: None, ..made.clone() }, origin());

    let started = source.make(&request, &who(), true).unwrap();
    assert_eq!(started.run.status, RunStatus::Pending);
    assert_eq!(started.children[0].created.within_ms, Some(7));
    assert_eq!(started.children[0].events.len(), 0);
    let origin = started.run.created.forked.unwrap().origin.unwrap();
    assert_eq!(origin.taken, made.taken, "parked or not, the same was taken");
}

#[test]
fn two_moments_are_the_same_if_what_is_taken_of_the_run_is() {
    let taken = |events: &[Event], at: &str| {
        let fork = source(events).make(&ForkRequest::at(at), &who(), false).unwrap();
        fork.run.created.forked.unwrap().origin.unwrap().taken.unwrap()
    };
    let now = [created(), step(1), step(2), done(1)];
    let later = [&now[..], &[step(3)]].concat();
    let paid = [&now[..], &[done(2)]].concat();
    assert_eq!(taken(&now, "1"), taken(&later, "1"));
    // A step that begins again in one of them is paid in the other.
    assert_ne!(taken(&now, "1"), taken(&paid, "1"));
    assert_ne!(taken(&paid, "1"), taken(&paid, "1:start"));
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let good = source(&[created(), step(1), done(1)]);
    let with = |change: &dyn Fn(&mut ForkSource)| {
        let mut source = good.clone();
        change(&mut source);
        refused(&source)
    };
    let wrong = |change: &dyn Fn(&mut ForkSource), kind, words: &str| {
        let (was, said) = with(change);
        assert!(was == kind && said.contains(words), "{words:?}: {was:?} {said}");
    };
    let conflict = ErrorKind::Conflict;
    wrong(&|it| it.events.clear(), conflict, "no events");
    wrong(&|it| drop(it.events.remove(0)), conflict, "does not begin with run_created");
    wrong(&|it| it.events.swap(1, 2), conflict, "event 2: it does not come after");
    wrong(&|it| drop(it.events.remove(1)), conflict, "event 3");
    wrong(&|it| it.events[1].kind = "of_later".into(), conflict, "event 2");
    wrong(&|it| it.events[1].data = Some(Json::null()), conflict, "event 2");
    wrong(&|it| it.events[2].run = None, conflict, "event 3: it is of another run");
    let invalid = ErrorKind::Invalid;
    wrong(&|it| it.origin.source = "x".repeat(1025), invalid, "1025 bytes");
    wrong(&|it| it.origin.source.clear(), invalid, "0 bytes");
    let bad = BTreeMap::from([("a\nb".to_owned(), String::new())]);
    let child: crate::RunId = "c".parse().unwrap();
    let bad_terms = RunTerms { labels: bad.clone(), within_ms: None };
    wrong(&|it| drop(it.given.insert(child.clone(), bad_terms.clone())), invalid, "a label");
    let labelled = |it: &mut ForkSource| {
        let Event::RunCreated(mut created) = created() else { unreachable!() };
        created.labels = bad.clone();
        let event = Event::RunCreated(created);
        it.events[0].data = Some(Json::parse(event.columns().data.as_deref().unwrap()).unwrap());
    };
    wrong(&labelled, invalid, "a label");
    let old = |it: &mut ForkSource| it.exact_from = None;
    assert!(
        with(&|it| {
            old(it);
            it.events.clear();
        })
        .1
        .contains("no events")
    );
    let mut of_version_0_1 = good.clone();
    old(&mut of_version_0_1);
    let error = of_version_0_1.make(&ForkRequest::at("1"), &who(), false).unwrap_err();
    assert!(error.to_string().contains("version 0.1"), "{error}");
    of_version_0_1.make(&ForkRequest::at("0"), &who(), false).unwrap();
}

#[test]
fn a_request_is_an_object_of_known_fields() {
    let asked = ForkFromRequest {
        source: source(&[created(), step(1), failed(1, "no")]),
        fork: ForkRequest::at("1").id("new"),
        start: false,
    };
    let text = serde_json::to_string(&asked).unwrap();
    assert_eq!(serde_json::from_str::<ForkFromRequest>(&text).unwrap(), asked);
    let unknown = text.replacen("\"source\":{", "\"source\":{\"more\":1,", 1);
    let error = serde_json::from_str::<ForkFromRequest>(&unknown).unwrap_err();
    assert!(error.to_string().contains("`more`"), "{error}");
}

/// What a sender may do to the events of a source, by mistake or not.
fn damage(source: &mut ForkSource, how: u8, at: usize, with: usize) {
    let count = source.events.len();
    let (at, with) = (at % count, with % count);
    match how {
        0 => drop(source.events.remove(at)),
        1 => {
            let copy = source.events[with].clone();
            source.events.insert(at, copy);
        }
        2 => source.events[at].op = source.events[with].op,
        3 => source.events[at].data = source.events[with].data.clone(),
        4 => source.events[at].kind = source.events[with].kind.clone(),
        5 => source.events[at].name = source.events[with].name.clone(),
        _ => source.events.swap(at, with),
    }
    if how != 6 {
        // In order again, so that the rest is looked at, too.
        for (number, event) in source.events.iter_mut().enumerate() {
            event.seq = Seq::new(u64::try_from(number + 1).unwrap()).unwrap();
        }
    }
}

proptest! {
    /// As it was sent, as JSON, the history gives the fork that the same events give here.
    #[test]
    fn a_history_that_is_sent_is_forked_as_if_it_were_here(
        candidates in prop::collection::vec(candidate(), 0..40),
        at in 1_u32..7,
    ) {
        let events = fitting(candidates);
        let request = ForkRequest::at(&format!("{at}:start"));
        let numbered = numbered(&events);
        let terms_of = |_: &crate::RunId, _| Ok(RunTerms::default());
        let log = ForkLog::of(&numbered).unwrap();
        let here = log.make(&request, &who(), Some(Seq::ZERO), terms_of);
        let text = serde_json::to_string(&source(&events)).unwrap();
        let sent: ForkSource = serde_json::from_str(&text).unwrap();
        match (here, sent.make(&request, &who(), true)) {
            (Ok(here), Ok(there)) => {
                prop_assert_eq!(here.run.events, there.run.events);
                prop_assert_eq!(here.outlook, there.outlook);
                let mut created = there.run.created;
                created.forked.as_mut().unwrap().origin = None;
                prop_assert_eq!(here.run.created, RunCreated { ..created });
            }
            (Err(here), Err(there)) => prop_assert_eq!(here.to_string(), there.to_string()),
            (here, there) => prop_assert!(false, "{:?} here, {:?} there", here.err(), there.err()),
        }
    }

    /// Whatever is sent gives an error of the sender's, or a fork that folds; nothing panics.
    #[test]
    fn a_damaged_history_is_refused_or_folds(
        candidates in prop::collection::vec(candidate(), 1..40),
        damages in prop::collection::vec((0_u8..7, any::<usize>(), any::<usize>()), 1..4),
        at in 1_u32..7,
    ) {
        let mut source = source(&fitting(candidates));
        for (how, at, with) in damages {
            if source.events.len() > 1 {
                damage(&mut source, how, at, with);
            }
        }
        for at in ["0".to_owned(), format!("{at}"), format!("{at}:start")] {
            if let Err(error) = source.make(&ForkRequest::at(&at), &who(), false) {
                let kinds = [ErrorKind::Conflict, ErrorKind::Invalid, ErrorKind::NotFound];
                prop_assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
        let _ = source.make(&ForkRequest::retry(), &who(), false);
    }
}
