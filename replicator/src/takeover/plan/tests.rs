//! Take-overs against a small world that can crash between any two steps.

use proptest::prelude::*;
use tidemill_model::{DOCUMENT_VERSION, LastGood, Seq, Stage, Timestamp, Uncured, Versions};

use super::*;
use crate::start::decide::decide;
use crate::start::facts::{AfterClaim, Decision, Facts, Local, LocalFile, LogRead};
use crate::testing::{boot, epoch, folder, instance, lease, machine, node, nonce, state, txid};

/// A take-over of epoch 2 by a disk that has nothing, over a node of which nothing was covered.
fn begin() -> TakeOverTerms {
    TakeOverTerms {
        epoch: epoch(2),
        instance: instance(1),
        acquired: nonce(2),
        covered: None,
        candidate: Candidate::None,
        local: LocalLog::None,
        uncured: None,
        allow_older: false,
    }
}

/// What survives a crash of the process: the disk and the bucket. Logs are lists of event ids.
#[derive(Debug, Clone)]
struct World {
    /// What the last point of epoch 1 holds.
    bucket: Option<Vec<u8>>,
    covered: Option<usize>,
    doc: Option<EpochDoc>,
    local: Option<Vec<u8>>,
    /// The epoch that the local file says it is of.
    owner: u64,
    aside: Vec<Vec<u8>>,
    done: Option<Option<Base>>,
    /// The log of the local file is not what its writer wrote.
    damaged: bool,
}

const POINT: u64 = 7;

fn sum(log: &[u8]) -> LogSum {
    LogSum::new(log.iter().fold(1, |sum, id| sum * 31 + u64::from(*id)))
}

fn head_of(log: &[u8]) -> LogPoint {
    LogPoint { seq: Seq::new(log.len().try_into().unwrap()).unwrap(), sum: sum(log) }
}

fn sum_at(log: &[u8], seq: Seq) -> Option<LogSum> {
    log.get(..usize::try_from(seq.get()).unwrap()).map(sum)
}

impl World {
    fn covered(&self) -> Option<Covered> {
        let (seq, log) = (self.covered?, self.bucket.as_ref()?);
        let LogPoint { seq, sum } = head_of(&log[..seq]);
        Some(Covered { epoch: epoch(1), txid: txid(POINT - 1), seq, sum })
    }

    /// What a start finds under the claim of epoch 2, which stands.
    fn candidate(&self) -> Candidate {
        let mut lease = lease(2, 1, 2, 3);
        lease.covered = self.covered();
        let state = tidemill_model::NodeState {
            epoch: Some(epoch(2)),
            acquired: Some(nonce(2)),
            last_good: None,
            folder: None,
            ..state(Stage::Claimed)
        };
        let local = self.local.as_ref().map_or(Local::Absent, |log| {
            let owner = Some((node(), Some(epoch(self.owner))));
            Local::File(LocalFile { owner, head: head_of(log), lacks: None, log: LogRead::Whole })
        });
        let facts = Facts {
            node: node(),
            state: Some(state),
            lease: Some(lease),
            newest_epoch: Some(epoch(1)),
            left: None,
            local,
            boot: boot(1),
            machine: machine(1),
            folder: folder(1),
        };
        match decide(&facts) {
            Decision::Claim(plan) => match plan.then {
                AfterClaim::TakeOver(candidate) => candidate,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Runs a take-over for `steps` effects; a crash then takes what was in memory.
    fn attempt(&mut self, candidate: Candidate, steps: usize) {
        let begin = TakeOverTerms {
            covered: self.covered(),
            candidate,
            local: self.local.as_deref().map_or(LocalLog::None, |log| {
                if self.damaged { LocalLog::Damaged } else { LocalLog::Whole(head_of(log)) }
            }),
            ..begin()
        };
        let mut core = TakeOver::new(begin);
        let mut input = Input::Begin;
        let mut restored = None;
        for _ in 0..steps {
            let effect = core.handle(input);
            let Some(next) = self.perform(effect, &mut restored) else { return };
            input = next;
        }
    }

    fn perform(&mut self, effect: Effect, restored: &mut Option<Vec<u8>>) -> Option<Input> {
        Some(match effect {
            Effect::OpenBreak(_) => Input::BreakWritten,
            Effect::CloseBreaks(_) => Input::BreaksClosed,
            Effect::ReadEpochDoc => Input::EpochDoc(self.doc.clone().map(Box::new)),
            Effect::List => {
                let point = RestorePoint { epoch: epoch(1), txid: txid(POINT) };
                Input::Listed {
                    last: self.bucket.as_ref().map(|_| point),
                    shipped: self.bucket.is_some(),
                }
            }
            Effect::SumOfLocal(seq) => {
                Input::LocalSum(self.local.as_ref().and_then(|log| sum_at(log, seq)))
            }
            Effect::Restore(_) => {
                let log = self.bucket.clone().unwrap();
                let at_covered = self.covered().and_then(|covered| sum_at(&log, covered.seq));
                let at_covered = at_covered.map_or(AtCovered::Lacks, AtCovered::Sum);
                let head = head_of(&log);
                *restored = Some(log);
                Input::Restored { head, at_covered }
            }
            Effect::CreateEpochDoc(base, _) => match &self.doc {
                Some(doc) => Input::DocExists(Box::new(doc.clone())),
                None => {
                    self.doc = Some(EpochDoc {
                        v: DOCUMENT_VERSION,
                        node: node(),
                        epoch: epoch(2),
                        instance: instance(1),
                        acquired: nonce(2),
                        at: Timestamp::from_micros(0).unwrap(),
                        base,
                        ttl: None,
                        host: None,
                        given_up: None,
                        versions: Versions::new(),
                        unknown: serde_json::Map::new(),
                    });
                    Input::DocCreated
                }
            },
            Effect::Place(placement) => {
                match placement {
                    Placement::KeepLocal => {}
                    Placement::Create => self.local = Some(Vec::new()),
                    Placement::Restored => {
                        self.aside.extend(self.local.take());
                        self.local = restored.take();
                        self.damaged = false;
                    }
                }
                self.owner = 2;
                Input::Placed
            }
            Effect::Done(base) => {
                self.done = Some(base);
                return None;
            }
            effect @ (Effect::Distrust(..)
            | Effect::Fenced(_)
            | Effect::Abandon
            | Effect::Fail(_)) => {
                panic!("{effect:?} in {self:?}")
            }
        })
    }
}

proptest! {
    #[test]
    fn a_crash_at_any_step_leads_to_the_same_epoch(
        common in prop::collection::vec(0..9u8, 0..6),
        shipped in prop::option::of(prop::collection::vec(10..19u8, 0..4)),
        unshipped in prop::option::of(prop::collection::vec(20..29u8, 0..4)),
        covered in 0..10usize,
        knows in any::<bool>(),
        damaged in any::<bool>(),
        crashes in prop::collection::vec(0..9usize, 0..5),
    ) {
        let with = |more: &Vec<u8>| [common.clone(), more.clone()].concat();
        let bucket = shipped.as_ref().map(with);
        let local = unshipped.as_ref().map(with);
        // A disk that was never shipped is another story: here there is a bucket, or nothing.
        prop_assume!(bucket.is_some() || local.is_none());
        let damaged = damaged && local.is_some();
        let covered = bucket.as_ref().and_then(|log| (covered <= log.len()).then_some(covered));
        let mut world = World {
            bucket: bucket.clone(), covered, doc: None, local: local.clone(), owner: 1,
            aside: Vec::new(), done: None, damaged,
        };
        let contains = !damaged && local.as_ref().zip(bucket.as_ref())
            .is_some_and(|(local, bucket)| local.starts_with(bucket));
        // The first attempt may know of a last good barrier that is the last point.
        let mut candidate = world.candidate();
        if let (true, true, Candidate::Own { last_good }) = (knows, contains, &mut candidate) {
            let LogPoint { seq, sum } = head_of(bucket.as_ref().unwrap());
            *last_good = Some((epoch(1), LastGood { txid: txid(POINT), seq, sum }));
        }
        let mut fixed = None;
        for steps in crashes.into_iter().chain([usize::MAX]) {
            world.attempt(candidate, steps);
            let base = world.doc.as_ref().map(|doc| doc.base);
            prop_assert!(fixed.is_none() || fixed == base, "the base changed");
            fixed = base;
            candidate = world.candidate();
        }
        let file = world.local.clone().unwrap();
        prop_assert_eq!(world.done, Some(world.doc.as_ref().unwrap().base));
        if let Some(covered) = covered {
            prop_assert_eq!(&file[..covered], &bucket.as_ref().unwrap()[..covered]);
        }
        let wanted = if contains { local.clone() } else { bucket };
        prop_assert_eq!(&file, &wanted.unwrap_or_default());
        if let Some(Some(base)) = world.done {
            prop_assert_eq!(base.head(), (head_of(&file).seq, head_of(&file).sum));
        }
        let lost = local.filter(|local| *local != file);
        prop_assert!(lost.is_none_or(|lost| world.aside.contains(&lost)), "a file is gone");
    }
}

#[test]
fn what_the_bucket_lost_is_said_and_not_papered_over() {
    let covered = crate::testing::covered(1, 9, 3);
    let begin = TakeOverTerms { covered: Some(covered), ..begin() };
    let mut core = TakeOver::new(begin.clone());
    core.handle(Input::Begin);
    core.handle(Input::EpochDoc(None));
    let short = RestorePoint { epoch: epoch(1), txid: txid(8) };
    let effect = core.handle(Input::Listed { last: Some(short), shipped: true });
    assert_eq!(effect, Effect::Fail(Problem::CoveredLost(covered)));
    let mut core = TakeOver::new(begin);
    core.handle(Input::Begin);
    core.handle(Input::EpochDoc(None));
    let last = Some(RestorePoint { epoch: epoch(1), txid: txid(9) });
    core.handle(Input::Listed { last, shipped: true });
    let head = crate::testing::head(5, 0);
    let effect = core.handle(Input::Restored { head, at_covered: AtCovered::Sum(LogSum::new(1)) });
    let Effect::Distrust(distrusted, what) = effect else { panic!("{effect:?}") };
    assert!(what.contains(&format!("differs at event {}", covered.seq)), "{what}");
    let answer = Input::Damaged { what: what.clone(), hidden: false };
    assert_eq!(core.handle(answer), Effect::Fail(Problem::Damaged(distrusted, what)));
}

/// The lease is gone, and this disk, which was away, knows an older covered position than the
/// bucket's newest owner did when retention removed it.
#[test]
fn a_covered_event_that_is_pruned_the_log_since_is_no_reason_to_distrust_it() {
    let covered = crate::testing::covered(1, 9, 3);
    let begin = TakeOverTerms { covered: Some(covered), ..begin() };
    let restored = |at_covered| {
        let mut core = TakeOver::new(begin.clone());
        core.handle(Input::Begin);
        core.handle(Input::EpochDoc(None));
        let last = Some(RestorePoint { epoch: epoch(1), txid: txid(9) });
        core.handle(Input::Listed { last, shipped: true });
        core.handle(Input::Restored { head: crate::testing::head(50, 0), at_covered })
    };
    let effect = restored(AtCovered::Pruned);
    assert!(matches!(effect, Effect::CreateEpochDoc(Some(_), None)), "{effect:?}");
    let effect = restored(AtCovered::Lacks);
    assert!(matches!(effect, Effect::Distrust(..)), "{effect:?}");
}

#[test]
fn an_epoch_that_another_instance_began_is_lost() {
    let mut world = World {
        bucket: Some(vec![1]),
        covered: None,
        doc: None,
        local: None,
        owner: 1,
        aside: Vec::new(),
        done: None,
        damaged: false,
    };
    world.attempt(Candidate::None, usize::MAX);
    let mut doc = world.doc.unwrap();
    doc.instance = instance(9);
    let mut core = TakeOver::new(begin());
    core.handle(Input::Begin);
    let effect = core.handle(Input::EpochDoc(Some(Box::new(doc.clone()))));
    assert_eq!(effect, Effect::Fenced(Box::new(doc)));
}

#[test]
fn an_unfinished_cure_is_marked_first_and_its_break_is_closed_at_a_base_from_the_bucket() {
    let of = Uncured { epoch: epoch(1), after: Some(txid(5)) };
    let begin = |candidate, local| TakeOverTerms { candidate, local, uncured: Some(of), ..begin() };
    let head = crate::testing::head(4, 0);
    let point = RestorePoint { epoch: epoch(1), txid: txid(8) };
    let listed = |begin| {
        let mut core = TakeOver::new(begin);
        assert_eq!(core.handle(Input::Begin), Effect::OpenBreak(of));
        assert_eq!(core.handle(Input::BreakWritten), Effect::ReadEpochDoc);
        core.handle(Input::EpochDoc(None));
        assert_eq!(
            core.handle(Input::Listed { last: Some(point), shipped: true }),
            Effect::Restore(point)
        );
        core
    };
    let mut core = listed(begin(Candidate::None, LocalLog::None));
    core.handle(Input::Restored { head, at_covered: AtCovered::Lacks });
    core.handle(Input::DocCreated);
    assert_eq!(core.handle(Input::Placed), Effect::CloseBreaks(point));
    assert!(matches!(core.handle(Input::BreaksClosed), Effect::Done(Some(Base::Restored { .. }))));

    // The local file has all of it: the bucket does not show where it begins.
    let mut core = listed(begin(Candidate::Own { last_good: None }, LocalLog::Whole(head)));
    core.handle(Input::Restored { head, at_covered: AtCovered::Lacks });
    core.handle(Input::LocalSum(Some(head.sum)));
    core.handle(Input::DocCreated);
    assert!(matches!(core.handle(Input::Placed), Effect::Done(Some(Base::Local { .. }))));
}

/// Another owner's epoch may have appeared since the start looked.
#[test]
fn a_file_that_was_never_shipped_is_not_put_upon_a_history() {
    let listed = |covered, point| {
        let begin = TakeOverTerms {
            covered,
            candidate: Candidate::Adopt,
            local: LocalLog::Whole(crate::testing::head(4, 0)),
            ..begin()
        };
        let mut core = TakeOver::new(begin);
        core.handle(Input::Begin);
        core.handle(Input::EpochDoc(None));
        core.handle(Input::Listed { last: point, shipped: point.is_some() })
    };
    let point = RestorePoint { epoch: epoch(1), txid: txid(8) };
    let refused = Effect::Fail(Problem::NotItsHistory);
    assert_eq!(listed(None, Some(point)), refused);
    assert_eq!(listed(Some(crate::testing::covered(1, 8, 3)), None), refused);
    assert!(matches!(listed(None, None), Effect::CreateEpochDoc(Some(Base::Local { .. }), None)));
}

#[test]
fn a_damaged_point_is_given_up_only_on_a_persons_word_and_a_fixed_base_ends_its_epoch() {
    let covered = crate::testing::covered(1, 9, 3);
    let begin = |allow_older| TakeOverTerms { covered: Some(covered), allow_older, ..begin() };
    let point = |n| RestorePoint { epoch: epoch(1), txid: txid(n) };
    let damaged = |hidden| Input::Damaged { what: "torn".to_owned(), hidden };
    let at_newest = |allow_older| {
        let mut core = TakeOver::new(begin(allow_older));
        core.handle(Input::Begin);
        core.handle(Input::EpochDoc(None));
        assert_eq!(
            core.handle(Input::Listed { last: Some(point(9)), shipped: true }),
            Effect::Restore(point(9))
        );
        core
    };
    let problem = Problem::Damaged(point(9), "torn".to_owned());
    assert_eq!(at_newest(false).handle(damaged(false)), Effect::Fail(problem));
    assert_eq!(at_newest(false).handle(damaged(true)), Effect::List);

    let mut core = at_newest(true);
    let at_covered = AtCovered::Sum(LogSum::new(1));
    let effect = core.handle(Input::Restored { head: crate::testing::head(5, 0), at_covered });
    assert!(matches!(effect, Effect::Distrust(distrusted, _) if distrusted == point(9)));
    assert_eq!(core.handle(damaged(false)), Effect::List);

    let mut core = at_newest(true);
    assert_eq!(core.handle(damaged(false)), Effect::List);
    assert_eq!(
        core.handle(Input::Listed { last: Some(point(7)), shipped: true }),
        Effect::Restore(point(7))
    );
    let head = crate::testing::head(2, 0);
    let effect = core.handle(Input::Restored { head, at_covered: AtCovered::Lacks });
    let Effect::CreateEpochDoc(Some(base), Some(given_up)) = effect else {
        panic!("{effect:?}");
    };
    assert_eq!(base.head(), (head.seq, head.sum));
    assert_eq!((given_up.txid, given_up.covered), (txid(9), Some(covered)));

    let base = Base::Restored { epoch: epoch(1), txid: txid(9), seq: head.seq, sum: head.sum };
    assert_eq!(restore_base(base).1, Effect::Restore(point(9)));
    let mut core = TakeOver::new(begin(false));
    core.step = TakeOverStep::RestoreBase(base);
    assert_eq!(core.handle(damaged(false)), Effect::Abandon);
    // It can be restored, and is not what `epoch.json` says.
    for (found, expected) in [(head, true), (crate::testing::head(2, 1), false)] {
        let mut core = TakeOver::new(begin(false));
        core.step = TakeOverStep::RestoreBase(base);
        let effect = core.handle(Input::Restored { head: found, at_covered: AtCovered::Lacks });
        assert_eq!(effect == Effect::Place(Placement::Restored), expected, "{effect:?}");
        assert_eq!(effect == Effect::Abandon, !expected, "{effect:?}");
    }
}

/// What a barrier covered is given up with a point only if the base does not reach it.
#[test]
fn a_base_that_reaches_what_was_covered_gives_up_the_damaged_point_alone() {
    let covered = crate::testing::covered(1, 9, 3);
    let begin = TakeOverTerms { covered: Some(covered), allow_older: true, ..begin() };
    let last = |n| {
        let last = Some(RestorePoint { epoch: epoch(1), txid: txid(n) });
        Input::Listed { last, shipped: true }
    };
    let damaged = || Input::Damaged { what: "torn".to_owned(), hidden: false };
    let mut core = TakeOver::new(begin);
    core.handle(Input::Begin);
    core.handle(Input::EpochDoc(None));
    core.handle(last(12));
    core.handle(damaged());
    core.handle(last(11));
    core.handle(damaged());
    core.handle(last(9));
    let head = crate::testing::head(4, 0);
    let mut differs = core.clone();
    // Another file than the one that was covered is not used, though something is given up.
    let effect =
        differs.handle(Input::Restored { head, at_covered: AtCovered::Sum(LogSum::new(1)) });
    assert!(matches!(effect, Effect::Distrust(..)), "{effect:?}");
    let effect = core.handle(Input::Restored { head, at_covered: AtCovered::Sum(covered.sum) });
    let Effect::CreateEpochDoc(Some(base), Some(given_up)) = effect else { panic!("{effect:?}") };
    assert_eq!(base.head(), (head.seq, head.sum));
    assert_eq!((given_up.txid, given_up.covered), (txid(12), None), "the newest of the two");
}

/// An epoch that was shipped to and has no restorable point is a history, too.
#[test]
fn a_new_file_is_made_only_where_nothing_was_shipped() {
    let listed = |candidate, shipped| {
        let begin = TakeOverTerms { candidate, ..begin() };
        let mut core = TakeOver::new(begin);
        core.handle(Input::Begin);
        core.handle(Input::EpochDoc(None));
        core.handle(Input::Listed { last: None, shipped })
    };
    assert_eq!(listed(Candidate::None, false), Effect::CreateEpochDoc(None, None));
    assert_eq!(listed(Candidate::None, true), Effect::Fail(Problem::NothingRestorable));
    assert_eq!(listed(Candidate::Adopt, true), Effect::Fail(Problem::NotItsHistory));
}
