use expect_test::{Expect, expect};
use tidemill_model::{LeaseDoc, NodeId, NodeState};

use super::*;
use crate::points::RestorePoint;
use crate::start::proof::Mark;
use crate::testing::{self, boot, epoch, folder, good, head, lease, machine, node, txid};

fn state(stage: Stage) -> Option<NodeState> {
    Some(testing::state(stage))
}

fn file(e: u64) -> Local {
    let owner = Some((node(), Some(epoch(e))));
    Local::File(LocalFile { owner, head: head(60, 0), lacks: None, log: LogRead::Whole })
}

fn unshipped() -> Local {
    Local::File(LocalFile { owner: None, head: head(60, 0), lacks: None, log: LogRead::Whole })
}

/// The file of epoch 3, as far as its log is known.
fn known(lacks: Option<Lack>, log: LogRead) -> Local {
    let Local::File(file) = file(3) else { panic!("a file") };
    Local::File(LocalFile { lacks, log, ..file })
}

fn ours() -> LeaseDoc {
    lease(3, 1, 3, 8)
}

fn released(mut doc: LeaseDoc) -> LeaseDoc {
    doc.released = true;
    doc
}

fn facts(state: Option<NodeState>, lease: Option<LeaseDoc>, newest: u64, local: Local) -> Facts {
    let newest_epoch = (newest > 0).then(|| epoch(newest));
    Facts {
        node: node(),
        state,
        lease,
        newest_epoch,
        left: newest_epoch.map(|epoch| RestorePoint { epoch, txid: txid(9) }),
        local,
        boot: boot(1),
        machine: machine(1),
        folder: folder(1),
    }
}

fn show(decision: &Decision) -> String {
    match decision {
        Decision::Claim(plan) => {
            let which = if plan.acquired.is_some() { "go on with" } else { "claim" };
            format!("{which} {} {:?}: {:?}", plan.epoch, plan.patience, plan.then)
        }
        Decision::Refuse(_)
        | Decision::FinishMove
        | Decision::Verify
        | Decision::MoveAway(_)
        | Decision::Forget => format!("{decision:?}"),
    }
}

fn check(cases: &[(&str, Facts)], expected: &Expect) {
    let lines = cases.iter().map(|(name, facts)| format!("{name}: {}\n", show(&decide(facts))));
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn a_disk_without_a_claim() {
    check(
        &[
            ("new node", facts(None, None, 0, Local::Absent)),
            ("file of its own", facts(None, None, 0, unshipped())),
            ("file, node has epochs", facts(None, None, 2, unshipped())),
            ("file, node has a lease", facts(None, Some(lease(1, 2, 2, 2)), 0, unshipped())),
            ("holder lives", facts(None, Some(lease(4, 2, 2, 2)), 4, Local::Absent)),
            ("released", facts(None, Some(released(lease(4, 2, 2, 2))), 3, Local::Absent)),
            ("lease deleted", facts(None, None, 4, Local::Absent)),
            ("state lost", facts(None, Some(ours()), 3, file(3))),
            ("wrong bucket", facts(None, None, 0, file(3))),
            ("half moved", facts(None, Some(ours()), 3, Local::WalOnly)),
        ],
        &expect![[r#"
            new node: claim 1 AtOnce: TakeOver(None)
            file of its own: claim 1 AtOnce: TakeOver(Adopt)
            file, node has epochs: Refuse(NotItsHistory)
            file, node has a lease: Refuse(NotItsHistory)
            holder lives: claim 5 UntilExpired: TakeOver(None)
            released: claim 5 AtOnce: TakeOver(None)
            lease deleted: claim 5 UntilExpired: TakeOver(None)
            state lost: MoveAway(NoState)
            wrong bucket: Refuse(HistoryGone)
            half moved: FinishMove
        "#]],
    );
}

#[test]
fn a_disk_whose_claim_stands() {
    let mut rebooted = facts(state(Stage::Shipping), Some(ours()), 3, file(3));
    rebooted.boot = boot(2);
    let mut uncured = facts(state(Stage::Cure), Some(ours()), 3, file(3));
    uncured.boot = boot(2);
    let mut copied = facts(state(Stage::Shipping), Some(ours()), 3, file(3));
    copied.folder = folder(2);
    let mut copied_in_take_over = facts(state(Stage::Claimed), Some(ours()), 3, file(2));
    copied_in_take_over.folder = folder(2);
    let mut carried = rebooted.clone();
    carried.machine = machine(2);
    let abandoned = |stage| {
        let mut facts = facts(state(stage), Some(ours()), 3, file(3));
        facts.state.as_mut().unwrap().abandoned = true;
        facts
    };
    check(
        &[
            ("shipping", facts(state(Stage::Shipping), Some(ours()), 3, file(3))),
            ("cure", facts(state(Stage::Cure), Some(ours()), 3, file(3))),
            ("claimed, no file", facts(state(Stage::Claimed), Some(ours()), 2, Local::Absent)),
            ("claimed, older file", facts(state(Stage::Claimed), Some(ours()), 2, file(2))),
            ("claimed, adopting", facts(state(Stage::Claimed), Some(ours()), 0, unshipped())),
            ("restored", facts(state(Stage::Restored), Some(ours()), 3, file(3))),
            ("file deleted", facts(state(Stage::Shipping), Some(ours()), 3, Local::Absent)),
            ("file replaced", facts(state(Stage::Shipping), Some(ours()), 3, unshipped())),
            ("released", facts(state(Stage::Shipping), Some(released(ours())), 3, file(3))),
            ("rebooted", rebooted),
            ("rebooted uncured", uncured),
            ("carried", carried),
            ("copied in the same boot", copied),
            ("copied in a take-over", copied_in_take_over),
            ("abandoned", abandoned(Stage::Shipping)),
            ("abandoned in its first copy", abandoned(Stage::Restored)),
            ("abandoned in a cure", abandoned(Stage::Cure)),
        ],
        &expect![[r#"
            shipping: go on with 3 AtOnce: Resume { cure: false }
            cure: go on with 3 AtOnce: Resume { cure: true }
            claimed, no file: go on with 3 AtOnce: TakeOver(None)
            claimed, older file: go on with 3 AtOnce: TakeOver(Own { last_good: None })
            claimed, adopting: go on with 3 AtOnce: TakeOver(Adopt)
            restored: go on with 3 AtOnce: Ship
            file deleted: claim 4 AtOnce: TakeOver(None)
            file replaced: Refuse(NotItsHistory)
            released: claim 4 AtOnce: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            rebooted: claim 4 Rebooted: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            rebooted uncured: claim 4 Rebooted: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            carried: claim 4 UntilExpired: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            copied in the same boot: claim 4 UntilExpired: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            copied in a take-over: claim 4 UntilExpired: TakeOver(Own { last_good: None })
            abandoned: claim 4 AtOnce: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
            abandoned in its first copy: claim 4 AtOnce: TakeOver(Own { last_good: None })
            abandoned in a cure: claim 4 AtOnce: TakeOver(Own { last_good: Some((Epoch(3), LastGood { txid: Txid(9), seq: Seq(50), sum: LogSum(50000) })) })
        "#]],
    );
}

/// Everything about the claim is in order; only the file is not.
#[test]
fn an_epoch_goes_on_only_from_a_file_that_is_what_it_was() {
    let lacks = || Some(Lack::Of(Mark::LastGood(good(9, 50))));
    let with = |stage, local| facts(state(stage), Some(ours()), 3, local);
    let cases = [
        ("seen at spots", with(Stage::Shipping, known(None, LogRead::Spots))),
        ("in a cure", with(Stage::Cure, known(None, LogRead::Spots))),
        ("not yet shipped", with(Stage::Restored, known(None, LogRead::Spots))),
        ("an app has it", with(Stage::Shipping, known(None, LogRead::InUse))),
        ("older", with(Stage::Shipping, known(lacks(), LogRead::Spots))),
        ("older, an app has it", with(Stage::Shipping, known(lacks(), LogRead::InUse))),
        ("older, in a cure", with(Stage::Cure, known(lacks(), LogRead::Whole))),
        ("older, not yet shipped", with(Stage::Restored, known(lacks(), LogRead::Whole))),
        ("no database", with(Stage::Shipping, Local::Damaged("why".into()))),
    ];
    let show = |(name, facts): (&str, Facts)| match decide(&facts) {
        Decision::Claim(ClaimPlan { acquired: None, patience, lacks, epoch, .. }) => {
            let lacks = lacks.map(|lack| lack.to_string()).unwrap_or_default();
            format!("{name}: claim {epoch} {patience:?}: {lacks}\n")
        }
        decision => format!("{name}: {}\n", show(&decision)),
    };
    expect![[r#"
        seen at spots: Verify
        in a cure: Verify
        not yet shipped: Verify
        an app has it: go on with 3 AtOnce: Resume { cure: false }
        older: claim 4 AtOnce: it does not contain event 50 as it was, and it was in the last barrier that counted
        older, an app has it: claim 4 AtOnce: it does not contain event 50 as it was, and it was in the last barrier that counted
        older, in a cure: claim 4 AtOnce: it does not contain event 50 as it was, and it was in the last barrier that counted
        older, not yet shipped: claim 4 AtOnce: it does not contain event 50 as it was, and it was in the last barrier that counted
        no database: claim 4 AtOnce: why
    "#]].assert_eq(&cases.map(show).concat());
    let unknown = facts(None, Some(ours()), 3, Local::Damaged("why".into()));
    assert_eq!(decide(&unknown), Decision::Refuse(Refused::Unreadable("why".into())));
}

#[test]
fn a_disk_whose_claim_is_lost() {
    let taken = || Some(lease(4, 2, 4, 4));
    check(
        &[
            ("taken", facts(state(Stage::Shipping), taken(), 4, file(3))),
            ("taken, moved", facts(state(Stage::Shipping), taken(), 4, Local::Absent)),
            ("lost the race", facts(state(Stage::Claimed), Some(lease(3, 2, 9, 9)), 2, file(2))),
            (
                "claim never arrived",
                facts(state(Stage::Claimed), Some(lease(2, 1, 2, 2)), 2, file(2)),
            ),
            (
                "its epoch under another claim",
                facts(state(Stage::Shipping), Some(lease(3, 1, 4, 4)), 3, file(3)),
            ),
            ("fenced", facts(state(Stage::Fenced), taken(), 4, file(3))),
            ("fenced, moved", facts(state(Stage::Fenced), taken(), 4, Local::Absent)),
            ("lease deleted", facts(state(Stage::Shipping), None, 3, file(3))),
            ("bucket emptied", facts(state(Stage::Shipping), None, 0, file(3))),
            (
                "a clone of the disk",
                facts(state(Stage::Shipping), Some(lease(4, 1, 4, 4)), 4, file(3)),
            ),
        ],
        &expect![[r#"
            taken: MoveAway(Fenced)
            taken, moved: Forget
            lost the race: MoveAway(Fenced)
            claim never arrived: claim 3 AtOnce: TakeOver(Own { last_good: None })
            its epoch under another claim: MoveAway(Fenced)
            fenced: MoveAway(Fenced)
            fenced, moved: Forget
            lease deleted: MoveAway(Fenced)
            bucket emptied: Refuse(HistoryGone)
            a clone of the disk: MoveAway(Fenced)
        "#]],
    );
}

#[test]
fn what_belongs_to_another_node_is_refused() {
    let other = NodeId::new("n2").unwrap();
    let mut by_state = facts(state(Stage::Shipping), Some(ours()), 3, file(3));
    by_state.node = other.clone();
    assert_eq!(decide(&by_state), Decision::Refuse(Refused::StateOfAnother(node())));
    by_state.state = None;
    assert_eq!(decide(&by_state), Decision::Refuse(Refused::FileOfAnother(node())));
}

/// A disk may be a copy: what another machine holds under this disk's instance may be acted upon
/// there, even if a claim from here was about to be made before.
#[test]
fn a_claim_that_never_arrived_does_not_make_a_carried_disk_hasty() {
    let before = |boot_of_holder: u8| {
        let mut lease = lease(2, 1, 2, 8);
        lease.status.boot = boot(boot_of_holder);
        facts(state(Stage::Claimed), Some(lease), 2, file(2))
    };
    check(
        &[("held by this boot", before(1)), ("held by another boot", before(2))],
        &expect![[r#"
            held by this boot: claim 3 AtOnce: TakeOver(Own { last_good: None })
            held by another boot: claim 3 UntilExpired: TakeOver(Own { last_good: None })
        "#]],
    );
}

#[test]
fn an_unfinished_cure_is_remembered_from_claim_to_claim() {
    let of = |stage| uncured(&state(stage).unwrap());
    let expected = Uncured { epoch: epoch(3), after: Some(good(9, 50).txid) };
    assert_eq!(of(Stage::Cure), Some(expected));
    assert_eq!(of(Stage::Shipping), None);
    // The process ended between the next claim and the break.
    let mut claimed = state(Stage::Claimed).unwrap();
    claimed.epoch = Some(epoch(4));
    claimed.uncured = Some(expected);
    assert_eq!(uncured(&claimed), Some(expected));
}

/// The lease is gone, and so is some or all of what was shipped.
#[test]
fn an_emptied_bucket_gets_neither_a_files_place_nor_a_new_node() {
    let with = |stage, newest, left, local| {
        let mut facts = facts(stage, None, newest, local);
        facts.left = left;
        facts
    };
    let at = |e, tx| Some(RestorePoint { epoch: epoch(e), txid: txid(tx) });
    let no_file = || Local::Absent;
    let later = || {
        let mut state = state(Stage::Claimed);
        state.as_mut().unwrap().last_good = None;
        state
    };
    let first = || {
        let mut state = later();
        state.as_mut().unwrap().epoch = Some(Epoch::FIRST);
        state
    };
    let forgotten = || {
        let mut state = later();
        state.as_mut().unwrap().epoch = None;
        state
    };
    check(
        &[
            ("emptied", with(state(Stage::Shipping), 0, None, file(3))),
            ("emptied, fenced", with(state(Stage::Fenced), 0, None, no_file())),
            ("emptied, restored", with(state(Stage::Restored), 0, None, no_file())),
            ("emptied, claimed later", with(later(), 0, None, no_file())),
            ("emptied, forgotten", with(forgotten(), 0, None, no_file())),
            ("a first claim that never arrived", with(first(), 0, None, no_file())),
            ("a stray object", with(state(Stage::Shipping), 3, None, file(3))),
            ("a stray object, no disk", with(None, 3, None, no_file())),
            ("an older point", with(state(Stage::Shipping), 3, at(3, 8), file(3))),
            ("all of it", with(state(Stage::Shipping), 3, at(3, 9), file(3))),
            ("all of it, no disk", with(None, 3, at(3, 9), no_file())),
            ("claimed later, all of it", with(later(), 3, at(3, 9), no_file())),
        ],
        &expect![[r#"
            emptied: Refuse(HistoryGone)
            emptied, fenced: Refuse(HistoryGone)
            emptied, restored: Refuse(HistoryGone)
            emptied, claimed later: Refuse(HistoryGone)
            emptied, forgotten: Refuse(HistoryGone)
            a first claim that never arrived: claim 1 AtOnce: TakeOver(None)
            a stray object: Refuse(HistoryDamaged)
            a stray object, no disk: Refuse(HistoryDamaged)
            an older point: Refuse(HistoryDamaged)
            all of it: MoveAway(Fenced)
            all of it, no disk: claim 4 UntilExpired: TakeOver(None)
            claimed later, all of it: Forget
        "#]],
    );
}
