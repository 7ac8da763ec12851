//! Children of files.

use super::{ChildRow, ChildrenPage, ChildrenQuery};
use crate::testing::{File, HOSTILE, Written, assert_harmless, elements, run_id, site};

fn page(file: &Written, query: &str) -> ChildrenPage {
    let asked = ChildrenQuery::parse(query).unwrap();
    let page = ChildrenPage::read(&file.connection, &run_id("sweep"), &asked).unwrap();
    let json = serde_json::to_string(&page).unwrap();
    assert_eq!(serde_json::from_str::<ChildrenPage>(&json).unwrap(), page, "as JSON and back");
    page
}

/// A sweep of trials: what each is given, what it measures, and what it returns, if it ended.
fn sweep(trials: &[(&str, &[&str], Option<&str>)]) -> Written {
    let mut file = File::new();
    file.run("sweep", "null", None);
    for (n, (input, checkpoints, output)) in (1..).zip(trials) {
        let child = format!("sweep.{n}");
        file.run(&child, input, Some(("sweep", n)));
        file.step(&child, 1, "null");
        for checkpoint in *checkpoints {
            file.checkpoint(&child, 1, 1, checkpoint);
        }
        if let Some(output) = output {
            file.completed(&child, output);
        }
    }
    file.done()
}

fn ids(rows: &[ChildRow]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

fn small() -> Written {
    sweep(&[
        (
            r#"{"seed":1,"rate":0.1,"model":{"width":8}}"#,
            &[
                r#"{"epoch":1,"loss":3,"val_acc":0.5}"#,
                r#"{"epoch":2,"loss":1,"val_acc":0.9}"#,
                r#"{"epoch":3,"loss":2,"val_acc":0.7}"#,
            ],
            Some(r#"{"saved":"a"}"#),
        ),
        (
            r#"{"seed":1,"rate":0.01,"model":{"width":8}}"#,
            &[r#"{"epoch":1,"loss":0.5,"val_acc":0.6}"#],
            Some(r#"{"saved":"b"}"#),
        ),
        (r#"{"seed":1,"rate":"auto"}"#, &[], None),
    ])
}

#[test]
fn inputs_outputs_and_the_best_are_columns() {
    let page = page(&small(), "");
    let keys: Vec<&str> = page.columns.iter().map(|column| column.key.as_str()).collect();
    let expected = [
        "input.model.width",
        "input.rate",
        "input.seed",
        "output.saved",
        "best.val_acc",
        "best.loss",
    ];
    assert_eq!(keys, expected, "those that differ come first");
    let first = &page.rows[0];
    let cells: Vec<String> = first.cells.iter().flatten().map(|c| c.value.to_string()).collect();
    assert_eq!(cells, ["8", "0.1", "1", "\"a\"", "0.9", "1.0"], "the best, not the last");
    assert_eq!(first.cells[5].as_ref().unwrap().at, Some(2.0));
    assert_eq!(page.rows[2].cells.iter().flatten().count(), 2, "what it has not is not there");
    let html = page.html(&site()).into_string();
    for part in ["loss ↓ best", "val_acc ↑ best", "0.9 at 2", "/n1/runs/sweep.1", "3 children"]
    {
        assert!(html.contains(part), "{part} in {html}");
    }
}

#[test]
fn all_children_are_sorted_by_any_column() {
    let file = small();
    for (query, expected) in [
        ("", ["sweep.1", "sweep.2", "sweep.3"]),
        ("dir=desc", ["sweep.3", "sweep.2", "sweep.1"]),
        ("sort=input.rate", ["sweep.2", "sweep.1", "sweep.3"]),
        ("sort=best.loss", ["sweep.2", "sweep.1", "sweep.3"]),
        ("sort=best.loss&dir=desc", ["sweep.1", "sweep.2", "sweep.3"]),
        ("sort=duration", ["sweep.2", "sweep.1", "sweep.3"]),
        ("sort=status", ["sweep.1", "sweep.2", "sweep.3"]),
        ("sort=id&dir=desc", ["sweep.3", "sweep.2", "sweep.1"]),
        ("sort=best.none", ["sweep.1", "sweep.2", "sweep.3"]),
    ] {
        assert_eq!(ids(&page(&file, query).rows), expected, "{query}");
    }
    let html = page(&file, "sort=best.val_acc&dir=desc").html(&site()).into_string();
    assert!(html.contains(r#"aria-sort="descending""#), "{html}");
}

#[test]
fn the_metric_on_held_out_data_is_drawn_first() {
    let file = small();
    let default = page(&file, "").curves.unwrap();
    assert_eq!((default.metric.as_str(), default.axis.as_deref()), ("val_acc", Some("epoch")));
    assert_eq!(default.lines[0].points, [(1.0, 0.5), (2.0, 0.9), (3.0, 0.7)]);
    assert_eq!(default.lines.len(), 2, "a child without it has no line");
    assert_eq!(page(&file, "metric=loss").curves.unwrap().metric, "loss");
    let none = page(&file, "metric=gone");
    assert!(none.curves.is_none());
    assert!(none.html(&site()).into_string().contains("No child has recorded"));
}

#[test]
fn what_was_recorded_again_is_not_the_best() {
    let mut file = File::new();
    file.run("sweep", "null", None);
    file.run("sweep.1", "null", Some(("sweep", 1)));
    file.step("sweep.1", 1, "null");
    for (attempt, step, loss) in [(1, 1, 5), (1, 2, 1), (2, 2, 4)] {
        let value = format!(r#"{{"step":{step},"loss":{loss}}}"#);
        file.checkpoint("sweep.1", 1, attempt, &value);
    }
    let page = page(&file.done(), "show=best");
    assert_eq!(page.rows[0].cells[0].as_ref().unwrap().value, 4.0);
}

#[test]
fn until_an_event_nothing_later_is_shown() {
    let file = small();
    let until = |seq: u64| page(&file, &format!("seq={seq}"));
    assert_eq!(until(2).rows.len(), 0);
    let running = until(7);
    assert_eq!((running.rows.len(), running.rows[0].status.as_str()), (1, "running"));
    assert_eq!(running.rows[0].duration_ms, None);
    assert_eq!(running.rows[0].cells.last().unwrap().as_ref().unwrap().value, 1.0);
    assert_eq!(until(9).rows[0].status.as_str(), "completed");
}

#[test]
fn a_run_without_children_says_so() {
    let file = sweep(&[]);
    let html = page(&file, "").html(&site()).into_string();
    assert!(html.contains("This run has started no child."));
    let asked = ChildrenQuery::default();
    let none = ChildrenPage::read(&file.connection, &run_id("gone"), &asked);
    assert_eq!(none.unwrap_err().to_string(), "there is no run gone");
    for query in ["dir=up", "show=all", "page=0", "seq=x", "more=1"] {
        assert!(ChildrenQuery::parse(query).is_err(), "{query}");
    }
}

#[test]
fn hostile_values_are_text() {
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    let payload = format!(r#"{{{hostile}:{hostile}}}"#);
    let checkpoint = format!(r#"{{{hostile}:1,"val":{{{hostile}:2}}}}"#);
    let query = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>();
    let file = sweep(&[(payload.as_str(), &[checkpoint.as_str()], Some(payload.as_str()))]);
    for query in [String::new(), format!("metric={query}"), format!("metric=x{query}&sort={query}")]
    {
        let html = page(&file, &query).html(&site()).into_string();
        assert!(html.contains("&lt;script&gt;"), "{html}");
        assert_harmless(&html);
    }
}

#[track_caller]
fn assert_small(page: &ChildrenPage) {
    let (json, html) = (serde_json::to_string(page).unwrap(), page.html(&site()).into_string());
    assert!(json.len() < 256 * 1024 && html.len() < 256 * 1024, "{} {}", json.len(), html.len());
    assert!(elements(&html) < 3_000, "{}", elements(&html));
}

#[test]
fn five_hundred_children_are_a_small_page() {
    let mut file = File::new();
    file.run("sweep", "null", None);
    for n in 1..=500 {
        let child = format!("sweep.{n}");
        let fields: Vec<String> = (0..20).map(|at| format!(r#""f{at}":{}"#, n * at)).collect();
        file.run(&child, &format!("{{{}}}", fields.join(",")), Some(("sweep", n)));
        file.step(&child, 1, "null");
        for step in 0..600_u32 {
            let loss = f64::from((step * n).wrapping_mul(2_654_435_761) >> 8) / 1e7;
            let value = format!(r#"{{"step":{step},"loss":{loss},"val_loss":{}}}"#, loss + 0.1);
            file.checkpoint(&child, 1, 1, &value);
        }
        file.completed(&child, &format!("{{{}}}", fields.join(",")));
    }
    let file = file.done();
    let first = page(&file, "");
    assert_eq!((first.children, first.pages, first.rows.len()), (500, 5, 100));
    let curves = first.curves.as_ref().unwrap();
    assert_eq!((curves.lines.len(), curves.others.len(), curves.points), (60, 440, 300_000));
    assert!(curves.lines.iter().all(|line| line.points.len() <= 60));
    assert_small(&first);
    let sorted = page(&file, "sort=input.f1&dir=desc&page=5&show=input");
    assert_eq!(sorted.rows.last().unwrap().id.as_str(), "sweep.1");
    assert_small(&sorted);
}

#[test]
fn children_with_the_worst_values_are_a_small_page() {
    let mut file = File::new();
    file.run("sweep", "null", None);
    for n in 1..=600_u32 {
        let child = format!("sweep.{n}");
        let name = "&".repeat(110);
        let text = "\\\"<&>".repeat(200);
        let fields: Vec<String> =
            (0..30).map(|at| format!(r#""{name}{at}":"{text}{n}""#)).collect();
        let payload = format!("{{{}}}", fields.join(","));
        file.run(&child, &payload, Some(("sweep", n)));
        file.step(&child, 1, "null");
        for step in 0..40_u32 {
            let value = -f64::from((step * n).wrapping_mul(2_654_435_761)) * 1.234_567_890_123e-308;
            let fields: Vec<String> =
                (0..3).map(|at| format!(r#""{name}{at}":{value:e}"#)).collect();
            let value = format!(r#"{{"step":{step}.123456789012,{}}}"#, fields.join(","));
            file.checkpoint(&child, 1, 1, &value);
        }
        file.completed(&child, &payload);
    }
    assert_small(&page(&file.done(), ""));
}
