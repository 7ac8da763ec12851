//! Inboxes and promises as pages.

mod forms;

use serde_json::{Value, json};
use tidemill_model::{
    AnswerNote, ApprovalRule, Event, Json, PromiseAnswer, PromiseId, PromiseTerms, PromiseView,
    Seq, Verdict,
};

use super::form::AnswerForm;
use super::{Attempt, Holder, Posted, PromiseShown, PromisesPage, PromisesParams, rule};
use crate::needs::Needs;
use crate::run::{RunPage, RunParams};
use crate::site::{Shown, Site, Viewer};
use crate::testing::{File, HOSTILE, Written, assert_harmless, at, name, op, run_id, site};

fn terms(message: &str, schema: Option<&Value>, approval: Option<ApprovalRule>) -> PromiseTerms {
    let schema = schema.map(|schema| Json::of(schema).unwrap());
    PromiseTerms { message: Some(message.into()), schema, deadline: None, approval }
}

fn two_of(people: &[&str], not_by: Option<&str>) -> ApprovalRule {
    let of = people.iter().map(|name| (*name).to_owned()).collect();
    ApprovalRule { needs: 2, of, not_by: not_by.map(str::to_owned) }
}

fn promise(file: &mut File, run: &str, id: u32, terms: PromiseTerms) {
    let (op, name) = (op(id), name("publish"));
    file.put(run, &Event::PromiseStarted { op, name, terms: Box::new(terms) });
}

fn answer(file: &mut File, (run, id): (&str, u32), verdict: Verdict, by: &str, settles: bool) {
    let value = Some(Json::of("because").unwrap());
    let answer =
        PromiseAnswer { by: Some(by.into()), settles, ..PromiseAnswer::new(verdict, value) };
    file.put(run, &Event::PromiseAnswered { op: op(id), name: name("publish"), answer });
}

fn shown(file: &Written, id: &str) -> PromiseShown {
    PromiseShown::read(&file.connection, &id.parse().unwrap()).unwrap().unwrap()
}

fn acting() -> Site {
    let viewer = Viewer { session: None, may_act: Some("secret".into()) };
    Site { viewer, ..site() }
}

/// A promise that was never recorded.
fn view(schema: Option<&Value>, approval: Option<ApprovalRule>) -> PromiseView {
    PromiseView {
        id: PromiseId { run: run_id("r"), op: op(1) },
        run: run_id("r"),
        op: op(1),
        name: name("publish"),
        workflow: name("trial"),
        labels: [].into(),
        status: "open".into(),
        message: None,
        schema: schema.map(|schema| Json::of(schema).unwrap()),
        deadline: None,
        approval,
        started_at: at(1),
        seq: Seq::new(1).unwrap(),
        answers: Vec::<AnswerNote>::new(),
    }
}

/// What a browser sends of a page's form.
fn posted(pairs: &[(&str, &str)]) -> Posted {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(pairs);
    Posted::read(&body.finish()).unwrap()
}

#[test]
fn an_inbox_has_what_waits_the_oldest_first() {
    let mut file = File::new();
    for id in 0..102 {
        let run = format!("r{id:03}");
        file.run(&run, "{}", None);
        promise(&mut file, &run, 1, terms("Publish it?", None, Some(two_of(&["ada"], None))));
    }
    answer(&mut file, ("r001", 1), Verdict::Rejected, "ada", true);
    let file = file.done();
    let read = |query: &str| {
        let params = PromisesParams::parse(query).unwrap();
        PromisesPage::read(&file.connection, params).unwrap()
    };
    let first = read("");
    let ids: Vec<String> = first.promises.iter().take(2).map(|it| it.id.to_string()).collect();
    assert_eq!(ids, ["r000:1", "r002:1"], "r001 waits no more");
    assert_eq!(first.promises.len(), 100);
    let page = first.html(&site()).into_string();
    assert!(page.contains("href=\"/n1/promises/r000:1\""), "{page}");
    assert!(page.contains("href=\"/n1/runs/r000\"") && page.contains("2 of ada"), "{page}");
    let next = read(&format!("after={}", first.next.unwrap()));
    assert_eq!((next.promises.len(), next.next), (1, None));
    assert!(next.html(&site()).into_string().contains("href=\"/n1/promises\">from the oldest"));
    let of_run = read("run=r001&all=true");
    let page = of_run.html(&site()).into_string();
    assert!(of_run.promises.len() == 1 && page.contains(">refused<"), "{page}");
    assert!(read("workflow=other").html(&site()).into_string().contains("Nothing waits"));
    let needs = Needs::of_file(&file.connection, at(500)).unwrap();
    assert_eq!(needs.all.len(), 50);
    let need = &needs.all[0];
    assert_eq!((need.kind.as_ref(), need.address.as_str()), ("promise", "/promises/r000:1"));
    assert_eq!((need.cause.as_str(), need.since), ("Publish it?", Some(at(3))));
}

#[test]
fn an_address_of_an_inbox_is_read_and_written() {
    for address in ["/p", "/p?run=r&workflow=w&name=n&label=a%3Db&label=c%3Dd&all=true&after=7"] {
        let query = address.split_once('?').map_or("", |(_, query)| query);
        assert_eq!(PromisesParams::parse(query).unwrap().address("/p"), address);
    }
    let error = |query| PromisesParams::parse(query).unwrap_err().to_string();
    assert!(error("label=x").contains("NAME=VALUE"));
    assert!(error("token=x").contains("there is no parameter `token`"));
}

#[test]
fn a_callback_of_a_program_is_in_the_inbox_and_needs_no_human() {
    let mut file = File::new();
    file.run("r", "{}", None);
    promise(&mut file, "r", 1, PromiseTerms::default());
    let file = file.done();
    assert!(Needs::of_file(&file.connection, at(9)).unwrap().all.is_empty());
    let page = PromisesPage::read(&file.connection, PromisesParams::default()).unwrap();
    assert_eq!(page.promises.len(), 1);
}

#[test]
fn a_promise_says_who_must_answer_and_who_has() {
    let mut file = File::new();
    file.run("r", "{}", None);
    let rule = two_of(&["ada", "ben", "cyn"], Some("ada"));
    promise(&mut file, "r", 1, terms("First line.\n\nSecond line.", None, Some(rule)));
    answer(&mut file, ("r", 1), Verdict::Resolved, "ben", false);
    let file = file.done();
    let promise = shown(&file, "r:1");
    let page = promise.html(&acting()).into_string();
    assert!(page.contains("2 of ada, ben, cyn; not ada, who started it"), "{page}");
    assert!(page.contains("<p>First line.</p><p>Second line.</p>"), "{page}");
    assert!(page.contains("<b>approved</b> by <b>ben</b>") && page.contains("because"), "{page}");
    assert!(page.contains("name=\"form_token\" value=\"secret\""), "{page}");
    // Only who may still answer can be chosen.
    assert!(page.contains("<option value=\"cyn\">") && !page.contains("<option value=\"ben\">"));
    assert!(!page.contains("<option value=\"ada\">"), "{page}");
    assert!(!promise.html(&site()).into_string().contains("<form"), "who may only look");
    let of_holder = |name| {
        let holder = Holder { token: "t", name: Some(name) };
        promise.page_of_holder(holder, None, at(9)).into_string()
    };
    assert!(of_holder("cyn").contains("<form"), "who has not answered");
    assert!(!of_holder("ben").contains("<form"), "who has");
    let past = Site { now: at(1), ..acting() };
    let past = Site { shown: past_moment(), ..past };
    assert!(!promise.html(&past).into_string().contains("<form"), "the past takes no answer");
    let run = RunPage::read(&file.connection, &run_id("r"), RunParams::default(), at(9));
    let run = run.unwrap().unwrap().html(&site()).into_string();
    assert!(run.contains("Waits for an answer:") && run.contains("First line. Second line."));
    assert!(run.contains("href=\"/n1/promises/r:1\""), "{run}");
}

fn past_moment() -> Shown {
    Shown::Past(crate::site::Past {
        asked: "latest".into(),
        epoch: tidemill_model::Epoch::new(1).unwrap(),
        txid: tidemill_model::Txid::new(1).unwrap(),
        at: at(1),
        covered: None,
        whole_until: None,
        earlier: None,
        later: None,
        unknown: None,
    })
}

#[test]
fn a_settled_promise_shows_what_won_and_no_form() {
    let mut file = File::new();
    file.run("r", "{}", None);
    let rule = ApprovalRule { needs: 1, of: Vec::new(), not_by: None };
    promise(&mut file, "r", 1, terms("Publish?", None, Some(rule)));
    answer(&mut file, ("r", 1), Verdict::Resolved, "ada", true);
    let file = file.done();
    let page = shown(&file, "r:1").html(&acting()).into_string();
    assert!(page.contains("<strong>Approved</strong> by <b>ada</b>"), "{page}");
    assert!(!page.contains("<form"), "{page}");
    let run = RunPage::read(&file.connection, &run_id("r"), RunParams::default(), at(9));
    assert!(run.unwrap().unwrap().promises.is_empty(), "it waits no more");
}

#[test]
fn who_holds_a_token_sees_one_promise_and_no_way_on() {
    let promise = PromiseShown { promise: view(None, None), values: Vec::new() };
    let holder = Holder { token: "tok&\"en", name: Some("ben") };
    let page = promise.page_of_holder(holder, None, at(9)).into_string();
    assert!(page.contains("name=\"token\" value=\"tok&amp;&quot;en\""), "{page}");
    assert!(page.contains("You answer as <b>ben</b>") && !page.contains("name=\"by\""), "{page}");
    assert!(!page.contains("<nav") && !page.contains("/runs"), "{page}");
    let links: Vec<&str> = page.split("<a ").skip(1).collect();
    assert_eq!(links.len(), 1, "only the link to the content: {links:?}");
}

#[test]
fn rules_are_words() {
    let rule = |needs, of: &[&str], not_by: Option<&str>, max| {
        let of = of.iter().map(|name| (*name).to_owned()).collect();
        rule::rule(&ApprovalRule { needs, of, not_by: not_by.map(str::to_owned) }, max)
    };
    assert_eq!(rule(1, &[], None, 9), "anybody who gives a name");
    assert_eq!(rule(3, &[], Some("ada"), 9), "any 3 people; not ada, who started it");
    assert_eq!(rule(1, &["ada"], None, 9), "ada");
    assert_eq!(rule(2, &["a", "b", "c"], None, 1), "2 of a and 2 more");
}

#[test]
fn an_approval_takes_a_comment_and_wants_a_name() {
    let rule = ApprovalRule { needs: 1, of: Vec::new(), not_by: None };
    let promise = PromiseShown { promise: view(None, Some(rule)), values: Vec::new() };
    let given = |verdict, pairs: &[(&str, &str)]| promise.given(verdict, &posted(pairs), None);
    let yes = given(Verdict::Resolved, &[("by", " ada "), ("value", "fine\r\nby me")]).unwrap();
    assert_eq!(yes.by.as_deref(), Some("ada"));
    assert_eq!(yes.value.as_str(), "\"fine\\nby me\"");
    let no = given(Verdict::Rejected, &[("by", "ada"), ("value", "too dear")]).unwrap();
    assert_eq!(no.value.as_str(), "\"too dear\"");
    assert_eq!(given(Verdict::Resolved, &[("by", "ada")]).unwrap().value, Json::null());
    let why = given(Verdict::Rejected, &[("by", " ")]).unwrap_err();
    assert_eq!(why, ["Your name: say who answers"]);
    let holder = Some(Holder { token: "t", name: Some("ben") });
    let held = promise.given(Verdict::Resolved, &posted(&[("by", "ada")]), holder).unwrap();
    assert_eq!(held.by.as_deref(), Some("ben"), "a token says whose it is");
}

#[test]
fn a_refused_form_keeps_what_was_typed() {
    let schema = json!({ "properties": { "a": { "type": "integer" } } });
    let promise = PromiseShown { promise: view(Some(&schema), None), values: Vec::new() };
    let typed = posted(&[("value.a", "x"), ("by", "ada"), ("reason", "no")]);
    let problems = promise.given(Verdict::Resolved, &typed, None).unwrap_err();
    let attempt = Attempt { typed, problems };
    let page = promise.page_after(&acting(), Some(&attempt)).into_string();
    assert!(page.contains("a: use a whole number"), "{page}");
    assert!(page.contains("value=\"x\" aria-invalid=\"true\""), "{page}");
    assert!(page.contains("value=\"ada\"") && page.contains("<details open"), "{page}");
}

#[test]
fn a_part_that_no_form_has_is_refused() {
    assert!(Posted::read("value=1&values=2").unwrap_err().to_string().contains("`values`"));
}

#[test]
fn hostile_terms_stay_text() {
    let mut file = File::new();
    file.run("r", "{}", None);
    let schema = json!({ "title": HOSTILE, "type": "object", "properties": {
        HOSTILE: { "type": "string", "title": HOSTILE, "description": HOSTILE, "default": HOSTILE },
        "b": { "enum": [HOSTILE] },
    } });
    promise(&mut file, "r", 1, terms(HOSTILE, Some(&schema), Some(two_of(&[HOSTILE], None))));
    promise(&mut file, "r", 2, terms(HOSTILE, None, Some(two_of(&[], None))));
    answer(&mut file, ("r", 2), Verdict::Resolved, HOSTILE, false);
    let file = file.done();
    let inbox = PromisesPage::read(&file.connection, PromisesParams::default()).unwrap();
    let holder = Holder { token: HOSTILE, name: Some(HOSTILE) };
    let attempt = Attempt {
        typed: posted(&[("by", HOSTILE), ("reason", HOSTILE), ("value.b", HOSTILE)]),
        problems: vec![HOSTILE.into(), HOSTILE.into()],
    };
    let of_holder = shown(&file, "r:1").page_of_holder(holder, Some(&attempt), at(9));
    let of_holder = of_holder.into_string();
    let (_, of_holder) = of_holder.split_once("<main ").unwrap();
    let run = RunPage::read(&file.connection, &run_id("r"), RunParams::default(), at(9));
    for page in [
        inbox.html(&site()).into_string(),
        shown(&file, "r:1").html(&acting()).into_string(),
        shown(&file, "r:2").html(&acting()).into_string(),
        of_holder.to_owned(),
        run.unwrap().unwrap().html(&site()).into_string(),
    ] {
        assert_harmless(&page);
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }
}
