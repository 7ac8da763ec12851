use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000).unwrap()
}

fn rule(needs: u32, of: &[&str], not_by: Option<&str>) -> ApprovalRule {
    let of = of.iter().map(|one| (*one).to_owned()).collect();
    ApprovalRule { needs, of, not_by: not_by.map(str::to_owned) }
}

fn record(approval: Option<ApprovalRule>) -> PromiseRecord {
    PromiseRecord::of(&PromiseTerms { approval, deadline: Some(at(10)), ..PromiseTerms::default() })
}

fn answer(verdict: Verdict, by: Option<&str>) -> PromiseAnswer {
    PromiseAnswer { by: by.map(str::to_owned), ..PromiseAnswer::new(verdict, None) }
}

fn give(record: &mut PromiseRecord, verdict: Verdict, by: &str, now: i64) -> bool {
    let mut answer = answer(verdict, Some(by));
    answer.settles = record.judge(&answer, at(now)).unwrap();
    record.answered(&answer, (Seq::ZERO, at(now)));
    answer.settles
}

#[test]
fn an_id_is_read_back_from_its_text_and_a_bad_one_says_how_it_looks() {
    let id = PromiseId { run: RunId::new("order-7.2").unwrap(), op: OpId::new(3).unwrap() };
    assert_eq!(id.to_string().parse::<PromiseId>().unwrap(), id);
    for bad in ["order-7", "order-7:", "order-7:x", "order-7:0", ":3", "a b:3"] {
        assert!(bad.parse::<PromiseId>().is_err(), "{bad}");
    }
}

#[test]
fn the_first_answer_counts_and_a_second_is_told_which_one_won() {
    let mut record = record(None);
    assert!(give(&mut record, Verdict::Rejected, "ada", 1));
    for verdict in [Verdict::Resolved, Verdict::Rejected, Verdict::Expired] {
        let refused = record.judge(&answer(verdict, None), at(20)).unwrap_err();
        let AnswerRefusal::Settled(won) = refused else { panic!("{refused:?}") };
        assert_eq!(won.to_string(), "rejected by ada at 1970-01-01T00:00:01.000000Z");
    }
}

/// A key is a person's own: another's answer with it is another answer.
#[test]
fn a_key_is_for_one_answer_of_one_person() {
    let mut record = record(Some(rule(2, &[], None)));
    let keyed = |by: &str| PromiseAnswer {
        key: Some("k".to_owned()),
        ..answer(Verdict::Resolved, Some(by))
    };
    record.answered(&keyed("ada"), (Seq::ZERO, at(1)));
    assert!(record.known(&keyed("ada")).is_some() && record.known(&keyed("ben")).is_none());
    assert!(record.known(&answer(Verdict::Resolved, Some("ada"))).is_none());
}

#[test]
fn at_the_deadline_it_expires_and_takes_no_answer() {
    let record = record(None);
    assert_eq!(record.judge(&answer(Verdict::Resolved, None), at(9)), Ok(true));
    assert_eq!(record.judge(&answer(Verdict::Expired, None), at(9)), Err(AnswerRefusal::TooEarly));
    let late = record.judge(&answer(Verdict::Resolved, None), at(10));
    assert_eq!(late, Err(AnswerRefusal::TooLate(at(10))));
    assert_eq!(record.judge(&answer(Verdict::Expired, None), at(10)), Ok(true));
}

#[test]
fn two_of_three_approve_or_two_refuse() {
    let two_of_three = || record(Some(rule(2, &["ada", "ben", "cyn"], None)));
    let mut approved = two_of_three();
    assert!(!give(&mut approved, Verdict::Resolved, "ada", 1));
    assert!(!give(&mut approved, Verdict::Rejected, "ben", 1));
    assert!(give(&mut approved, Verdict::Resolved, "cyn", 1));
    let mut refused = two_of_three();
    assert!(!give(&mut refused, Verdict::Rejected, "ada", 1));
    assert!(give(&mut refused, Verdict::Rejected, "cyn", 1));
    let mut twice = two_of_three();
    give(&mut twice, Verdict::Resolved, "ada", 1);
    let again = twice.judge(&answer(Verdict::Rejected, Some("ada")), at(2));
    assert!(matches!(again, Err(AnswerRefusal::Twice(_))), "{again:?}");
}

#[test]
fn who_started_the_run_and_who_is_not_asked_does_not_decide() {
    let record = record(Some(rule(1, &["ada", "ben"], Some("ben"))));
    for who in [None, Some("ben"), Some("mallory"), Some("Ada")] {
        let refused = record.judge(&answer(Verdict::Resolved, who), at(1));
        assert!(matches!(refused, Err(AnswerRefusal::NotAllowed(_))), "{who:?} {refused:?}");
    }
    assert_eq!(record.judge(&answer(Verdict::Rejected, Some("ada")), at(1)), Ok(true));
}

#[test]
fn a_newer_token_replaces_its_holders_and_an_old_one_opens_nothing() {
    let mut record = record(None);
    let grant = |hash: &str, holder: Option<&str>, until| TokenGrant {
        hash: hash.to_owned(),
        holder: holder.map(str::to_owned),
        expires_at: at(until),
    };
    for grant in [grant("1", Some("ada"), 9), grant("2", None, 9), grant("3", Some("ada"), 5)] {
        record.granted(&grant);
    }
    let opens = |hash, now| record.grant(hash, at(now)).is_some();
    assert!(!opens("1", 1) && opens("2", 1) && opens("3", 1) && !opens("3", 5));
}

#[test]
fn terms_that_cannot_be_met_are_refused() {
    let fault = |rule| PromiseTerms { approval: Some(rule), ..PromiseTerms::default() }.fault();
    assert_eq!(fault(rule(2, &["ada", "ben"], None)), None);
    assert_eq!(fault(rule(100, &[], None)), None);
    for bad in [
        rule(0, &[], None),
        rule(101, &[], None),
        rule(3, &["ada", "ben"], None),
        rule(2, &["ada", "ben"], Some("ada")),
        rule(1, &["ada", "ada"], None),
        rule(1, &[" ada"], None),
        rule(2, &["ada", ""], None),
    ] {
        assert!(fault(bad.clone()).is_some(), "{bad:?}");
    }
    let message = Some("x".repeat(PromiseTerms::MESSAGE_BYTES_MAX + 1));
    assert!(PromiseTerms { message, ..PromiseTerms::default() }.fault().is_some());
}

#[test]
fn what_is_too_long_is_refused_and_an_empty_text_says_nothing() {
    let with = |by: &str, value: &str| {
        let value = Some(Json::of(value).unwrap());
        let new = PromiseAnswer::new(Verdict::Resolved, value);
        PromiseAnswer { by: Some(by.to_owned()), ..new }.checked()
    };
    assert_eq!(with(" ", "x").unwrap().by, None);
    assert_eq!(with(" ada ", "x").unwrap().by.as_deref(), Some("ada"));
    assert!(with(&"a".repeat(201), "x").is_err());
    assert!(with("ada", &"x".repeat(PAYLOAD_BYTES_MAX)).is_err());
    let record = record(Some(rule(1, &[], None)));
    let long = with("ada", &"x".repeat(APPROVAL_VALUE_BYTES_MAX)).unwrap();
    assert!(matches!(record.judge(&long, at(1)), Err(AnswerRefusal::TooLong(_))));
}

proptest! {
    /// Whoever answers in whatever order: an approval is settled by at most one answer, never with too
    /// few approvals, and never left open when nothing can change it any more.
    #[test]
    fn an_approval_is_settled_once_and_rightly(
        people in 1_usize..6,
        needs in 1_u32..6,
        said in proptest::collection::vec((0_usize..7, any::<bool>()), 0..20),
    ) {
        let of: Vec<String> = (0..people).map(|one| format!("p{one}")).collect();
        let needs = needs.min(u32::try_from(people).unwrap());
        let rule = ApprovalRule { needs, of, not_by: None };
        let mut record = record(Some(rule));
        let (mut yes, mut no) = (0_u32, 0_u32);
        for (who, approves) in said {
            let by = format!("p{who}");
            let verdict = if approves { Verdict::Resolved } else { Verdict::Rejected };
            let mut answer = answer(verdict, Some(&by));
            let Ok(settles) = record.judge(&answer, at(1)) else { continue };
            answer.settles = settles;
            record.answered(&answer, (Seq::ZERO, at(1)));
            if approves { yes += 1 } else { no += 1 }
            let left = u32::try_from(people).unwrap() - yes - no;
            let is_decided = yes >= needs || yes + left < needs;
            prop_assert_eq!(settles, is_decided, "{} yes, {} no, {} of {}", yes, no, needs, people);
        }
        prop_assert!(record.answers.iter().filter(|answer| answer.settles).count() <= 1);
    }
}
