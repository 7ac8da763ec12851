//! A run of more operations than an answer holds, each larger than a list shows: a live node and its
//! file show the same of it.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::process::{self, Finished};
use crate::support::{scratch, tools};

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_live_node_shows_all_of_a_run_without_a_copy_of_its_file() {
    let path = scratch::folder("file").join("workflow.db");
    let app = Settings::alone(&path).start();
    let input = json!({ "steps": 1_100, "millis": 0, "bytes": 5_000, "quiet": true });
    app.api().start("long", "chain", &input);
    app.api().wait_completed("long", BOUND);
    let over_http = app.api().run("long").expect("it answers");
    assert_eq!(
        (&over_http["operations_total"], &over_http["operations_next"]),
        (&json!(1_100), &json!(1_000))
    );
    let cut = &over_http["operations"][0];
    assert_eq!((cut.get("output"), &cut["whole"]), (None, &json!("/v1/runs/long/operations/1")));

    let file = path.to_str().expect("a test path in UTF-8").to_owned();
    let live = app.api().base().to_owned();
    let tidemill = |args: &[&str]| -> Finished {
        let mut command = Command::new(tools::tidemill());
        // A copy would have no place.
        process::finish("tidemill", command.args(args).env("TMPDIR", "/nowhere/at/all"))
    };
    let show = |args: &[&str]| tidemill(&[&["show", "long", "--all"], args].concat());
    let (by_file, by_node) = (show(&["--from", &file]).ok(), show(&["--from", &live]).ok());
    assert_eq!(by_node, by_file);
    assert_eq!(by_file.matches(" step link  completed").count(), 1_100);

    let whole = show(&["--from", &live, "--json"]);
    assert_eq!(whole.stdout, show(&["--from", &file, "--json"]).ok());
    let whole: Value = whole.json();
    assert_eq!(whole["operations_next"], Value::Null);
    let operations = whole["operations"].as_array().expect("operations");
    assert_eq!(operations.len(), 1_100);
    for (number, operation) in (1..).zip(operations) {
        let padding = operation["output"]["padding"].as_str().map(str::len);
        assert_eq!((&operation["op"], padding), (&json!(number), Some(5_000)));
    }

    let runs = ["runs", "--json", "--workflow", "chain", "--from"];
    let listed = |from: &str| tidemill(&[&runs[..], &[from]].concat()).ok();
    assert_eq!(listed(&live), listed(&file));
    assert!(listed(&live).contains("\"id\": \"long\""), "{}", listed(&live));

    let past = show(&["--from", &live, "--at", "5"]);
    assert_eq!(past.code, 1, "the past of a live node is in a copy: {past:#?}");
    assert!(past.stderr.contains("/nowhere/at/all"), "{past:#?}");
}
