//! Runs of every size as pages.

use tidemill_model::{Event, Failure, FailureKind, OpId, Parent, RunCreated, RunStatus};

use super::{
    EventsPage, EventsParams, Only, OperationShown, PayloadPart, RunPage, RunParams, payload,
};
use crate::testing::{
    File, HOSTILE, Written, assert_harmless, at, elements, json, name, op, run_id, site,
};

/// What a page may weigh before anyone unfolds, and how many elements a browser gets.
const BYTES_MAX: usize = 256 * 1024;
const ELEMENTS_MAX: usize = 3_000;

fn read(file: &Written, params: RunParams) -> RunPage {
    RunPage::read(&file.connection, &run_id("r"), params, at(2_000_000)).unwrap().unwrap()
}

fn failure(message: &str) -> Failure {
    Failure { kind: FailureKind::Failed, message: message.into(), chain: vec![message.into()] }
}

/// A run of many steps, of which every hundredth fails for good after many attempts.
fn long(steps: u32) -> Written {
    let mut file = File::new();
    file.run("r", "{}", None);
    for id in 1..=steps {
        file.step("r", id, "{}");
        let (op, name) = (op(id), name("train"));
        if id.is_multiple_of(100) {
            for attempt in 1..=20 {
                let (error, name) = (failure(&"why ".repeat(500)), name.clone());
                let next_at = at(9);
                let failed =
                    Event::StepAttemptFailed { op, name, attempt, error, next_at, of: Some(21) };
                file.put("r", &failed);
            }
            file.put("r", &Event::StepFailed { op, name, error: failure("no"), attempts: 21 });
        } else {
            file.put("r", &Event::StepCompleted { op, name, output: json("1") });
        }
    }
    file.done()
}

#[test]
fn a_run_of_50_000_operations_is_a_page_like_any_other() {
    let file = long(50_000);
    let page = read(&file, RunParams::default());
    assert_eq!((page.total, page.operations.len(), page.next), (50_000, 100, Some(op(100))));
    assert_eq!(page.failed.as_ref().map(|failed| failed.op), Some(op(100)));
    assert_eq!((page.names.len(), page.names[0].failed), (1, 500));
    let failed = RunParams { only: Some(Only::Failed), ..RunParams::default() };
    for params in [RunParams::default(), failed.clone()] {
        let html = read(&file, params).html(&site()).into_string();
        assert!(html.len() < BYTES_MAX, "{} bytes", html.len());
        assert!(elements(&html) < ELEMENTS_MAX, "{} elements", elements(&html));
    }
    let page = read(&file, RunParams { after: Some(op(49_900)), ..failed });
    assert_eq!((page.total, page.operations.len(), page.next), (500, 1, None));
    let events = EventsPage::read(&file.connection, &run_id("r"), &EventsParams::default());
    let html = events.unwrap().unwrap().html(&site()).into_string();
    assert!(html.len() < BYTES_MAX && elements(&html) < ELEMENTS_MAX, "{} bytes", html.len());
    let shown =
        OperationShown::read(&file.connection, &run_id("r"), (op(100), None)).unwrap().unwrap();
    let html = shown.html(&site()).into_string();
    assert!(html.len() < BYTES_MAX && elements(&html) < ELEMENTS_MAX, "{} bytes", html.len());
}

#[test]
fn an_event_rewinds_the_whole_page() {
    let file = long(3);
    let now = read(&file, RunParams::default());
    assert_eq!((now.event, now.events, now.total), (8, 8, 3));
    let seen = |event| {
        let page = read(&file, RunParams { event: Some(event), ..RunParams::default() });
        let open = page.operations.iter().filter(|row| row.status == "open").count();
        (page.total, open, page.run.status)
    };
    assert_eq!(seen(1), (0, 0, RunStatus::Pending));
    assert_eq!(seen(3), (1, 1, RunStatus::Running));
    assert_eq!(seen(4), (1, 0, RunStatus::Running));
    let beyond = RunParams { event: Some(9), ..RunParams::default() };
    let error = RunPage::read(&file.connection, &run_id("r"), beyond, at(1)).unwrap_err();
    assert!(error.to_string().contains("has 8 events here, and no event 9"), "{error}");
    let nobody = RunPage::read(&file.connection, &run_id("x"), RunParams::default(), at(1));
    assert_eq!(nobody.unwrap(), None);
}

#[test]
fn what_a_rewound_run_leads_to_is_rewound_too() {
    let file = long(3);
    let rewound = read(&file, RunParams { event: Some(3), ..RunParams::default() });
    let html = rewound.html(&site()).into_string();
    let seq = rewound.last.seq;
    for link in ["operations/1?seq=", "curves?seq=", "export.html?seq="] {
        assert!(html.contains(&format!("{link}{seq}\"")), "no {link}{seq} in {html}");
    }
    let run = run_id("r");
    let shown = |seq| {
        let shown = OperationShown::read(&file.connection, &run, (op(1), seq)).unwrap().unwrap();
        (shown.operation.status.to_string(), shown.html(&site()).into_string())
    };
    let (then, html) = shown(Some(seq));
    assert_eq!(then, "open");
    assert!(html.contains(&format!("/runs/r?seq={seq}\"")), "it leads back: {html}");
    assert_eq!(shown(None).0, "completed");
    let output = |seq| {
        payload(&file.connection, &run, Some(op(1)), (PayloadPart::Output, seq)).unwrap().is_some()
    };
    assert!(!output(Some(seq)) && output(None));
    let whole = read(&file, RunParams::default()).html(&site()).into_string();
    assert!(!whole.contains("?seq="), "the newest event needs no place: {whole}");
}

#[test]
fn hostile_text_and_large_payloads_stay_text_and_small() {
    let mut file = File::new();
    let large = format!("{{\"{0}\":\"{1}\"}}", HOSTILE.replace('"', "\\\""), "x".repeat(900_000));
    file.run("r", &large, None);
    file.step("r", 1, &large);
    let (op, name) = (OpId::FIRST, name("train"));
    let error = failure(&HOSTILE.repeat(10_000));
    file.put("r", &Event::StepFailed { op, name, error: error.clone(), attempts: 1 });
    file.put("r", &Event::RunFailed { error, terminated: false });
    let file = file.done();
    let shown = OperationShown::read(&file.connection, &run_id("r"), (op, None)).unwrap().unwrap();
    let events = EventsPage::read(&file.connection, &run_id("r"), &EventsParams::default());
    let pages = [
        read(&file, RunParams::default()).html(&site()).into_string(),
        shown.html(&site()).into_string(),
        events.unwrap().unwrap().html(&site()).into_string(),
    ];
    for html in pages {
        assert_harmless(&html);
        assert!(html.len() < 64 * 1024, "{} bytes", html.len());
    }
}

/// The pages of a run and of one that it spawned, or that outlives it, link to each other.
#[test]
fn who_started_a_run_and_what_it_started_are_linked_both_ways() {
    let mut file = File::new();
    file.run("r", "{}", None);
    let (input, spawned, child) = (json("1"), run_id("r.1"), run_id("r.2"));
    let run = spawned.clone();
    file.put(
        "r",
        &Event::SpawnStarted { op: op(1), name: name("mail"), run, input: input.clone() },
    );
    let by = |id| Some(Parent { run: run_id("r"), op: op(id) });
    file.run_with("r.1", |created| RunCreated { spawned_by: by(1), ..created });
    file.put("r", &Event::SpawnCompleted { op: op(1), name: name("mail"), run: spawned });
    let (op2, name2) = (op(2), name("trial"));
    let started = Event::ChildStarted { op: op2, name: name2, child, input, outlives_parent: true };
    file.put("r", &started);
    file.run_with("r.2", |created| RunCreated { parent: by(2), outlives_parent: true, ..created });
    let file = file.done();
    let html = |run: &str| {
        let page = RunPage::read(&file.connection, &run_id(run), RunParams::default(), at(9));
        page.unwrap().unwrap().html(&site()).into_string()
    };
    let link = |run: &str| format!("href=\"{}\"", site().run(run));
    let page = html("r");
    assert!(page.contains(&link("r.1")) && page.contains(" starts "), "{page}");
    assert!(page.contains(&link("r.2")));
    let page = html("r.1");
    assert!(page.contains(&link("r")) && page.contains("and on its own since"), "{page}");
    let page = html("r.2");
    assert!(page.contains(&link("r")) && page.contains("which it outlives"), "{page}");
    let shown = |id| OperationShown::read(&file.connection, &run_id("r"), (op(id), None));
    let html = shown(1).unwrap().unwrap().html(&site()).into_string();
    assert!(html.contains(&link("r.1")), "{html}");
    let html = shown(2).unwrap().unwrap().html(&site()).into_string();
    assert!(html.contains("outlives this run"), "{html}");
}
