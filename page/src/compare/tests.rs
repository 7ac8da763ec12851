//! Comparisons of files.

use proptest::prelude::*;
use tidemill_model::{Event, Seq};

use super::{Compare, ComparePage, CompareQuery, What};
use crate::testing::{
    File, HOSTILE, Written, assert_harmless, at, elements, json, name, op, run_id, site,
};

fn compare(file: &Written, a: &str, b: &str) -> ComparePage {
    let (a, b) = (run_id(a), run_id(b));
    let page =
        ComparePage::read((&file.connection, &a, None), (&file.connection, &b, None)).unwrap();
    let json = serde_json::to_string(&page).unwrap();
    assert_eq!(serde_json::from_str::<ComparePage>(&json).unwrap(), page, "as JSON and back");
    page
}

fn html(page: &ComparePage) -> String {
    page.html(&site()).into_string()
}

/// A run of steps, each with its input and its output.
fn run(file: &mut File, id: &str, input: &str, steps: &[(&str, &str)]) {
    file.run(id, input, None);
    for (n, (input, output)) in (1..).zip(steps) {
        file.step(id, n, input);
        file.checkpoint(id, n, 1, "1");
        end(file, id, n, output);
    }
}

fn end(file: &mut File, id: &str, n: u32, output: &str) {
    let (name, output) = (name("train"), json(output));
    file.put(id, &Event::StepCompleted { op: op(n), name, output });
}

#[test]
fn runs_that_do_the_same_have_no_divergence() {
    let mut file = File::new();
    run(&mut file, "a", r#"{"x":1,"y":2}"#, &[("1", "2"), ("2", "[3]")]);
    run(&mut file, "b", r#"{"y":2,"x":1}"#, &[("1", "2"), ("2", "[ 3 ]")]);
    file.completed("a", "1");
    file.completed("b", "1");
    let page = compare(&file.done(), "a", "b");
    assert_eq!((page.same_events, &page.divergence, &page.payload), (6, &None, &None));
    assert_eq!((page.operations.differing, page.operations.same), (0, 2));
    assert_eq!((page.input.differing, page.output.same), (0, 1));
    assert!(html(&page).contains("Both are the same to their ends: 6 events"), "{}", html(&page));
}

#[test]
fn the_first_act_that_differs_is_the_divergence() {
    let mut file = File::new();
    run(&mut file, "a", r#"{"rate":0.1}"#, &[("1", "2"), ("2", "3"), ("4", "5")]);
    run(&mut file, "b", r#"{"rate":0.2}"#, &[("1", "7"), ("2", "3"), ("9", "5")]);
    let page = compare(&file.done(), "a", "b");
    let divergence = page.divergence.as_ref().unwrap();
    assert_eq!((page.same_events, divergence.what, divergence.position), (5, What::Payload, 6));
    let data = |event: &Option<super::EventShown>| event.as_ref().unwrap().data.clone().unwrap();
    assert_eq!(data(&divergence.a), r#"{"input":4}"#);
    assert_eq!(data(&divergence.b), r#"{"input":9}"#);
    // What a run was created with is the first that it observes.
    assert_eq!(page.payload.as_ref().unwrap().position, 1);
    let differs: Vec<(u32, &[String])> =
        page.operations.rows.iter().map(|row| (row.op, row.differs.as_slice())).collect();
    let (input, output) = (["input".to_owned()], ["output".to_owned()]);
    assert_eq!(differs, [(1, &output[..]), (3, &input[..]), (2, &[])]);
    let html = html(&page);
    assert!(html.contains("Then an operation is given something else."), "{html}");
    assert!(html.contains("/n1/runs/b/operations/3") && html.contains("1 field differs"), "{html}");
}

#[test]
fn kinds_operations_and_ends_are_told_apart() {
    let mut file = File::new();
    run(&mut file, "a", "null", &[("1", "2")]);
    file.step("a", 2, "null");
    run(&mut file, "short", "null", &[("1", "2")]);
    run(&mut file, "timer", "null", &[("1", "2")]);
    file.put("timer", &Event::TimerStarted { op: op(2), name: name("train"), fire_at: at(9) });
    run(&mut file, "other", "null", &[("1", "2")]);
    file.step("other", 3, "null");
    run(&mut file, "named", "null", &[("1", "2")]);
    let step =
        Event::StepStarted { op: op(2), name: name("eval"), input: json("null"), queued: true };
    file.put("named", &step);
    let file = file.done();
    for (b, what) in
        [("short", What::End), ("timer", What::Kind), ("other", What::Op), ("named", What::Name)]
    {
        let page = compare(&file, "a", b);
        let divergence = page.divergence.as_ref().unwrap();
        assert_eq!((divergence.what, page.same_events), (what, 3), "{b}");
        assert_eq!(divergence.b.is_none(), b == "short");
    }
    assert!(html(&compare(&file, "a", "short")).contains("There B ends, and A goes on."));
    assert!(html(&compare(&file, "short", "a")).contains("There A ends, and B goes on."));
}

#[test]
fn ids_of_children_follow_from_their_parents() {
    let child = |of: &str, input: &str| Event::ChildStarted {
        op: op(1),
        name: name("trial"),
        child: run_id(of),
        input: json(input),
        outlives_parent: false,
    };
    let mut file = File::new();
    for (id, of, input) in
        [("a", "a.1", "1"), ("b", "b.1", "1"), ("c", "other", "1"), ("d", "d.1", "2")]
    {
        file.run(id, "null", None);
        file.put(id, &child(of, input));
    }
    let file = file.done();
    assert_eq!(compare(&file, "a", "b").divergence, None);
    assert_eq!(compare(&file, "a", "c").divergence.unwrap().what, What::Payload);
    assert_eq!(compare(&file, "a", "d").divergence.unwrap().what, What::Payload);
}

#[test]
fn one_run_at_two_moments_ends_earlier() {
    let mut file = File::new();
    run(&mut file, "a", "null", &[("1", "2"), ("3", "4")]);
    file.completed("a", "5");
    let file = file.done();
    let (a, until) = (run_id("a"), Seq::new(4).unwrap());
    let sides = ((&file.connection, &a, Some(until)), (&file.connection, &a, None));
    let page = ComparePage::read(sides.0, sides.1).unwrap();
    assert_eq!((page.same_events, page.divergence.as_ref().unwrap().what), (2, What::End));
    assert_eq!((page.a.status.as_str(), page.b.status.as_str()), ("running", "completed"));
    assert_eq!((page.a.duration_ms, page.a.events, page.b.events), (None, 2, 6));
    assert_eq!(page.operations.rows[0].differs, ["status", "output"]);
    let mut then = site();
    then.base = "/n1@latest".into();
    let html = page.html_of(&then, &site()).into_string();
    assert!(html.contains("up to event 4") && html.contains("/n1@latest/runs/a"), "{html}");
    assert!(!html.contains("<form"), "one form has no place for two sources");
}

#[test]
fn an_event_of_a_newer_version_is_compared_as_text() {
    let mut file = File::new();
    run(&mut file, "a", "null", &[]);
    run(&mut file, "b", "null", &[]);
    for (run, value) in [("a", "1"), ("b", "2")] {
        file.unknown(run, "promise_resolved", 1, &format!(r#"{{"value":{value}}}"#));
    }
    let page = compare(&file.done(), "a", "b");
    assert_eq!(page.divergence.unwrap().what, What::Payload);
    assert_eq!(page.operations.rows[0].differs, ["output"]);
}

#[test]
fn two_runs_are_asked_for() {
    let form = ComparePage::form(&site()).into_string();
    assert!(form.contains(r#"action="/n1/compare""#) && form.contains(r#"name="b""#), "{form}");
    let asked = CompareQuery::parse("a=x&b=y&a_seq=7&b_seq=").unwrap();
    assert_eq!((asked.a, asked.b), (Some(run_id("x")), Some(run_id("y"))));
    assert_eq!((asked.a_seq, asked.b_seq), (Seq::new(7).ok(), None));
    for query in ["a=%3Cx%3E/", "a_seq=x", "b_seq=-1", "c=x"] {
        assert!(CompareQuery::parse(query).is_err(), "{query}");
    }
    let mut file = File::new();
    run(&mut file, "x", "1", &[]);
    let file = file.done();
    let compare = |query: &str| {
        Compare::read(&file.connection, &CompareQuery::parse(query).unwrap()).unwrap()
    };
    let asking = compare("a=x").html(&site()).into_string();
    assert!(asking.contains(r#"name="a" required value="x""#), "{asking}");
    assert!(compare("a=x&b=x").html(&site()).into_string().contains("same to their ends"));
    let gone = run_id("gone");
    let side = (&file.connection, &gone, None);
    assert_eq!(ComparePage::read(side, side).unwrap_err().to_string(), "there is no run gone");
}

#[test]
fn hostile_values_are_text() {
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    let payload = |n: u32| format!(r#"{{{hostile}:{hostile},"n":{hostile},"{n}":{n}}}"#);
    let mut file = File::new();
    for (n, id) in [(1, "a"), (2, "b")] {
        run(&mut file, id, &payload(n), &[(hostile.as_str(), &payload(n)), (&payload(n), "1")]);
        file.unknown(id, HOSTILE, 9, &payload(n));
        file.completed(id, &payload(n));
    }
    let page = html(&compare(&file.done(), "a", "b"));
    assert!(page.contains("&lt;script&gt;"), "{page}");
    assert_harmless(&page);
}

#[test]
fn two_runs_of_fifty_thousand_operations_are_a_small_page() {
    let mut file = File::new();
    let hostile = serde_json::to_string(&"\u{1}<\"&>\\".repeat(200)).unwrap();
    for (id, by) in [("a", 1), ("b", 2)] {
        let fields: Vec<String> =
            (0..500).map(|n| format!(r#""{n}&&&&&&&&&&&&&&&&&&&&&":{hostile}"#)).collect();
        file.run(id, &format!(r#"{{"by":{by},{}}}"#, fields.join(",")), None);
        for n in 1..=50_000 {
            file.step(id, n, if n == 40_000 { &hostile } else { "null" });
            let text = if n > 49_000 { hostile.as_str() } else { "1" };
            end(&mut file, id, n, &format!(r#"{{"n":{},"x":{text}}}"#, n / 49_500 * by));
        }
    }
    let page = compare(&file.done(), "a", "b");
    assert_eq!((page.same_events, page.operations.differing), (100_001, 501));
    let (html, json) = (html(&page), serde_json::to_string(&page).unwrap());
    assert!(json.len() < 256 * 1024 && html.len() < 256 * 1024, "{} {}", json.len(), html.len());
    assert!(elements(&html) < 3_000, "{}", elements(&html));
}

proptest! {
    #[test]
    fn the_divergence_is_the_first_place_that_differs(
        steps in prop::collection::vec(0_u8..3, 0..12),
        other in prop::collection::vec(0_u8..3, 0..12),
    ) {
        let mut file = File::new();
        for (id, steps) in [("a", &steps), ("b", &other)] {
            file.run(id, "null", None);
            for (n, input) in (1..).zip(steps) {
                file.step(id, n, &input.to_string());
            }
        }
        let page = compare(&file.done(), "a", "b");
        let alike = steps.iter().zip(&other).take_while(|(a, b)| a == b).count();
        prop_assert_eq!(page.same_events, u64::try_from(alike).unwrap() + 1);
        prop_assert_eq!(page.divergence.is_none(), steps == other);
        let differing = steps.len().max(other.len())
            - steps.iter().zip(&other).filter(|(a, b)| a == b).count();
        prop_assert_eq!(page.operations.differing, differing);
    }
}
