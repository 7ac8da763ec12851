use proptest::prelude::*;

use super::*;
use crate::moment::Moment;
use crate::simulated::{Began, Changing, Event, World, cures, succession, unusual, usual};
use crate::timeline::Place;
use tidemill_model::Txid;

#[test]
fn a_listing_is_sorted_by_epoch_and_strangers_are_passed_over() {
    let listing: Vec<Listed> = [
        "f/nodes/n/epochs/0000000001/0000/0000000000000001-0000000000000001.ltx",
        "f/nodes/n/epochs/0000000001/0009/0000000000000001-0000000000000002.ltx",
        "f/nodes/n/epochs/0000000001/breaks/0000000000000002.json",
        "f/nodes/n/epochs/0000000001/breaks/0000000000000002-open.json",
        "f/nodes/n/epochs/0000000001/breaks/x.json",
        "f/nodes/n/epochs/0000000001/epoch.json",
        "f/nodes/n/epochs/0000000002/epoch.json",
        "f/nodes/n/epochs/0000000002/0000/stranger",
        "f/nodes/n/epochs/stranger/epoch.json",
        "f/nodes/n/epochs/stranger",
    ]
    .into_iter()
    .map(|key| Listed {
        key: key.to_owned(),
        size: 1,
        modified: Timestamp::from_micros(0).unwrap(),
    })
    .collect();
    let epochs = sort("f/nodes/n/epochs/", &listing);
    assert_eq!(epochs.len(), 2);
    let first = &epochs[&Epoch::FIRST];
    assert_eq!((first.files.len(), first.breaks.len(), first.doc), (2, 2, true));
    let second = &epochs[&Epoch::FIRST.next()];
    assert_eq!((second.files.len(), second.breaks.len(), second.doc), (0, 0, true));
}

#[test]
fn a_time_in_whole_seconds_means_the_end_of_that_second() {
    let micros = |micros| Timestamp::from_micros(micros).unwrap();
    assert_eq!(by(micros(5_000_000)), micros(5_999_999));
    assert_eq!(by(micros(5_001_000)), micros(5_001_000));
}

/// The tests' node.
fn keys() -> NodeKeys {
    let fleet: tidemill_model::FleetUrl = "s3://bucket/f".parse().unwrap();
    fleet.node(&tidemill_model::NodeId::new("n1").unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn after(events: &[Event]) -> World {
    let mut world = World::new(&keys());
    events.iter().for_each(|event| world.happen(*event));
    world
}

fn whole(world: &World) -> Timeline {
    wait(read_all(&Changing::still(world.clone()), &keys())).unwrap()
}

fn part(world: &World, question: Question) -> Timeline {
    wait(read_to_answer(&Changing::still(world.clone()), &keys(), question)).unwrap()
}

/// Every moment that could be asked of a small world.
fn moments(world: &World, whole: &Timeline) -> Vec<Moment> {
    let mut moments = vec![Moment::Latest, Moment::Ago(Duration::from_millis(3))];
    for n in 1..=world.epoch.get() + 1 {
        let epoch = Epoch::new(n).unwrap();
        moments.push(Moment::EpochEnd(epoch));
        moments.extend((1..12).map(|txid| Moment::Exact(epoch, Txid::new(txid).unwrap())));
    }
    let times = whole.epochs.iter().flat_map(|history| &history.points).map(|point| point.at);
    for at in times.chain([world.now()]) {
        let near = [at, at.saturating_sub(Duration::from_micros(1))];
        moments.extend(near.map(Moment::Time));
    }
    moments
}

fn check_moments(world: &World) {
    let whole = whole(world);
    for moment in moments(world, &whole) {
        let now = crate::Now { at: world.now(), shipped_until: None };
        let part = part(world, Question::Moment { moment, now: now.at });
        let answer = part.resolve(&moment, now);
        let expected = whole.resolve(&moment, now);
        let text = |answer: &Result<Place, Error>| match answer {
            Ok(place) => format!("{place:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(text(&answer), text(&expected), "{moment}");
        let Ok(place) = answer else { continue };
        // What proves the point: the documents of its epoch and of all that may have begun there.
        let since = |timeline: &Timeline| -> Vec<EpochDoc> {
            let docs = timeline.docs().into_iter();
            docs.filter(|doc| doc.epoch >= place.epoch).cloned().collect()
        };
        assert_eq!(since(&part), since(&whole), "{moment}");
        if moment == Moment::Latest {
            for history in &part.epochs {
                let all = whole.epoch(history.epoch).unwrap();
                assert_eq!(history.end(), all.end());
                assert_eq!(history.newest.map(|p| p.txid), all.newest.map(|p| p.txid));
            }
        }
    }
}

fn check_take_overs(world: &World) {
    let whole = whole(world);
    for n in 1..=world.epoch.get() + 1 {
        let epoch = Epoch::new(n).unwrap();
        let part = part(world, Question::TakeOver(epoch));
        let point = |place: Option<Place>| place.map(|place| (place.epoch, place.txid));
        let (found, expected) = (part.last_before(epoch), whole.last_before(epoch));
        assert_eq!(point(found), point(expected), "{epoch}");
        let shipped = |timeline: &Timeline| {
            timeline.epochs.iter().any(|history| history.epoch < epoch && history.shipped)
        };
        assert_eq!(shipped(&part), shipped(&whole), "{epoch}");
        let left = self::part(world, Question::Left { since: Some(epoch) });
        assert_eq!(point(left.next_base()), point(whole.next_base()));
        let later = |timeline: &Timeline| -> Vec<EpochDoc> {
            let docs = timeline.docs().into_iter();
            docs.filter(|doc| doc.epoch > epoch).cloned().collect()
        };
        assert_eq!(later(&left), later(&whole));
    }
}

/// What a take-over would begin from and what `latest` means, in this order.
fn ends(timeline: &Timeline) -> [Option<(Epoch, Txid)>; 2] {
    [timeline.next_base(), timeline.latest()].map(|place| place.map(|p| (p.epoch, p.txid)))
}

/// Reads while the world goes on. The answer is not older than what was there all the while, which
/// without open breaks is what was there at the beginning, and it was there at some time.
fn check_race(start: &World, page: usize, to_come: &[Vec<Event>]) {
    let latest = Question::Moment { moment: Moment::Latest, now: start.now() };
    for (index, question) in [Question::Left { since: None }, latest].into_iter().enumerate() {
        let changing = Changing::new(start.clone(), page, to_come.to_vec());
        let found = ends(&wait(read_to_answer(&changing, &keys(), question)).unwrap())[index];
        let states = changing.states();
        let least = states.iter().map(|state| ends(&whole(state))[index]).min().flatten();
        assert!(found >= least, "{question:?}: {found:?} is older than {least:?}");
        let was = |world: &World| {
            let there = whole(world);
            found.is_none_or(|(epoch, txid)| {
                there.epoch(epoch).is_some_and(|history| {
                    history.contains(txid) || history.newest.is_some_and(|n| n.txid == txid)
                })
            })
        };
        assert!(states.iter().any(was), "{question:?}: {found:?} never was");
    }
}

fn events(all: &[(u32, BoxedStrategy<Event>)], most: usize) -> BoxedStrategy<Vec<Event>> {
    let union = proptest::strategy::Union::new_weighted(all.to_vec());
    proptest::collection::vec(union, 0..most).boxed()
}

fn anything() -> BoxedStrategy<Vec<Event>> {
    events(&[(12, usual()), (2, succession()), (1, cures()), (1, unusual())], 50)
}

fn changes() -> BoxedStrategy<Vec<Vec<Event>>> {
    let step = events(&[(12, usual()), (1, succession())], 4);
    proptest::collection::vec(step, 0..20).boxed()
}

proptest! {
    #[test]
    fn what_is_read_newest_first_answers_as_the_whole_timeline(events in anything()) {
        let world = after(&events);
        check_moments(&world);
        check_take_overs(&world);
    }

    #[test]
    fn nothing_older_than_what_was_there_is_answered_while_files_are_compacted_and_expire(
        before in events(&[(14, usual()), (1, succession()), (1, cures())], 60),
        page in 1_usize..6,
        to_come in changes(),
    ) {
        check_race(&after(&before), page, &to_come);
    }
}

#[test]
fn a_long_node_is_read_in_a_few_requests() {
    let ship = [Event::Ship, Event::Ship, Event::Compact(0), Event::Snapshot(0), Event::Ship];
    let next = Event::NextEpoch(Began::From(3, 0));
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..365 {
        events.extend(ship);
        events.push(next);
    }
    events.extend(ship);
    let world = after(&events);
    let latest = Question::Moment { moment: Moment::Latest, now: world.now() };
    for question in
        [latest, Question::TakeOver(world.epoch), Question::TakeOver(world.epoch.next())]
    {
        let changing = Changing::still(world.clone());
        wait(read_to_answer(&changing, &keys(), question)).unwrap();
        assert_eq!(changing.requests(), 5, "{question:?}");
    }
}
