//! The same asked of many runs: which they are, what each becomes, and each line that is printed.

use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::process::Finished;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

/// The exit code of a command, the lines that it printed, in order, and what it said.
fn told(settings: &Settings, base: &str, args: &[&str]) -> (i32, Vec<String>, String) {
    let Finished { code, stdout, stderr } = settings.tell(base, args);
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    lines.sort();
    (code, lines, stderr)
}

#[test]
fn many_runs_are_paused_resumed_and_cancelled_by_a_filter() {
    let settings = Settings::alone(&scratch::folder("bulk").join("workflow.db"));
    let app = settings.start();
    let (api, base) = (app.api(), app.api().base().to_owned());
    let told = |args: &[&str]| told(&settings, &base, args);
    for number in 0..40 {
        let team = if number % 4 == 0 { "red" } else { "blue" };
        let run =
            json!({ "workflow": "number", "id": format!("n{number}"), "labels": { "team": team } });
        assert_eq!(api.post("/v1/runs", &run).expect("the node answers").status, 201);
    }
    api.start("other", "review", &json!({ "verdicts": 1 }));
    wait::until_true("all wait", BOUND, || {
        api.get("/v1/runs?status=suspended")
            .is_ok_and(|reply| reply.body["counts"]["suspended"] == json!(41))
    });

    let (code, _, err) = told(&["cancel"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = told(&["cancel", "n1", "--all"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = told(&["cancel", "n1", "--dry-run"]);
    assert_eq!(code, 2, "{err}");
    let (code, lines, err) = told(&["cancel", "--workflow", "number", "--dry-run"]);
    assert_eq!((code, lines.len()), (0, 40));
    assert_eq!(lines[0], "n0  number  suspended");
    assert_eq!(err, "cancel would be asked of 40 runs; nothing was asked\n");
    assert_eq!(api.status("n0").as_deref(), Some("suspended"), "a dry run does nothing");

    let (code, lines, err) = told(&["pause", "--label", "team=red", "--by", "ada"]);
    assert_eq!((code, lines.len()), (0, 10), "{err}");
    assert!(lines.iter().all(|line| line.ends_with("  paused")), "{lines:?}");
    assert_eq!(err, "pause: 10 runs, 0 that it could not be asked of now, 0 errors\n");
    let (code, lines, err) = told(&["resume", "--all"]);
    assert_eq!((code, lines.len()), (0, 10), "{err}");
    let (code, lines, err) = told(&["cancel", "--workflow", "number"]);
    assert_eq!((code, lines.len()), (0, 40), "{err}");
    for number in 0..40 {
        assert_eq!(api.wait_ended(&format!("n{number}"), BOUND)["status"], "cancelled");
    }
    assert_eq!(api.status("other").as_deref(), Some("suspended"), "it is of another workflow");
    let (code, lines, err) = told(&["terminate", "--all", "--status", "suspended"]);
    assert_eq!((code, lines), (0, vec!["other  cancelled".to_owned()]), "{err}");
    assert_eq!(told(&["cancel", "--all"]).1, Vec::<String>::new());
}

#[test]
fn failed_runs_are_retried_and_each_once() {
    let settings = Settings::alone(&scratch::folder("bulk-retry").join("workflow.db"));
    let app = settings.start();
    let (api, base) = (app.api(), app.api().base().to_owned());
    let told = |args: &[&str]| told(&settings, &base, args);
    for (id, reject) in [("f1", true), ("f2", true), ("f3", false)] {
        api.start(id, "number", &json!(null));
        wait::until_true("it waits", BOUND, || {
            api.get(&format!("/v1/promises?run={id}"))
                .is_ok_and(|reply| reply.body["promises"][0]["id"].is_string())
        });
        let verb = if reject { "reject" } else { "resolve" };
        let answered = api.post(&format!("/v1/promises/{id}:1/{verb}"), &json!(7));
        assert_eq!(answered.expect("the node answers").status, 200);
        api.wait_ended(id, BOUND);
    }
    let (code, lines, err) = told(&["retry", "--workflow", "number"]);
    assert_eq!(
        (code, lines.as_slice()),
        (0, &["f1  f1-retry".to_owned(), "f2  f2-retry".to_owned()][..]),
        "{err}"
    );
    let (_, lines, _) = told(&["retry", "--workflow", "number"]);
    assert_eq!(lines, ["f1  f1-retry was there", "f2  f2-retry was there"]);
    wait::until_true("both ask again", BOUND, || {
        api.get("/v1/promises").is_ok_and(|reply| {
            reply.body["promises"].as_array().is_some_and(|open| open.len() == 2)
        })
    });
}
