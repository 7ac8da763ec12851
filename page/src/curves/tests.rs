//! Curves of files.

use super::{CurvesPage, CurvesQuery};
use crate::testing::{File, HOSTILE, Written, assert_harmless, elements, run_id, site};

fn curves(file: &Written, query: &str) -> CurvesPage {
    let asked = CurvesQuery::parse(query).unwrap();
    let page = CurvesPage::read(&file.connection, &run_id("r"), &asked).unwrap();
    let json = serde_json::to_string(&page).unwrap();
    assert_eq!(serde_json::from_str::<CurvesPage>(&json).unwrap(), page, "as JSON and back");
    page
}

fn run_with_step() -> File {
    let mut file = File::new();
    file.run("r", "null", None);
    file.step("r", 1, "null");
    file
}

#[test]
fn training_and_held_out_stand_in_one_chart() {
    let mut file = run_with_step();
    for epoch in 1..=3 {
        file.checkpoint(
            "r",
            1,
            1,
            &format!(
                r#"{{"Epoch":{epoch},"train_loss":{epoch}.5,"val":{{"loss":{epoch}}},"lr":0.1}}"#
            ),
        );
    }
    file.completed("r", "null");
    let page = curves(&file.done(), "");
    assert_eq!(page.axis.as_deref(), Some("Epoch"));
    assert_eq!(page.metrics, ["loss", "lr"]);
    let lines: Vec<(&str, bool)> =
        page.charts[0].lines.iter().map(|line| (line.path.as_str(), line.held_out)).collect();
    assert_eq!(lines, [("train_loss", false), ("val.loss", true)]);
    let line = &page.charts[0].lines[1];
    assert_eq!((line.last, line.least, line.greatest), ((3.0, 3.0), (1.0, 1.0), (3.0, 3.0)));
    assert_eq!(line.parts[0].points, [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]);
    let html = page.html(&site()).into_string();
    assert!(html.contains(r#"class="line s1 held-out""#));
    assert!(html.contains("6 points") && html.contains("loss by Epoch"), "{html}");
}

#[test]
fn a_resumed_attempt_is_a_branch() {
    let mut file = run_with_step();
    for (attempt, epochs) in [(1, 1..=4), (2, 3..=5)] {
        for epoch in epochs {
            let value = format!(r#"{{"epoch":{epoch},"loss":{}}}"#, epoch * attempt);
            file.checkpoint("r", 1, u32::try_from(attempt).unwrap(), &value);
        }
    }
    let page = curves(&file.done(), "");
    let line = &page.charts[0].lines[0];
    let parts: Vec<_> = line.parts.iter().map(|p| (p.attempt, p.superseded, p.resumed)).collect();
    assert_eq!(parts, [(1, true, None), (1, false, None), (2, false, Some((3.0, 6.0)))]);
    assert_eq!(line.parts[0].points, [(2.0, 2.0), (3.0, 3.0), (4.0, 4.0)], "from where it left");
    assert_eq!(line.parts[2].points[0], (2.0, 2.0), "the branch begins at what it goes on from");
    assert_eq!((line.points, line.superseded, line.least), (7, 2, (1.0, 1.0)));
    let html = page.html(&site()).into_string();
    assert!(html.contains("attempt 2 resumed here") && html.contains("2 superseded"), "{html}");
    assert!(html.contains(r#"class="line s0 old""#), "{html}");
}

#[test]
fn a_chart_has_eight_lines_and_says_what_it_leaves_out() {
    let mut file = run_with_step();
    for op in 2..=20 {
        file.step("r", op, "null");
        for step in 0..op {
            file.checkpoint("r", op, 1, &format!(r#"{{"step":{step},"loss":{op}}}"#));
        }
    }
    let file = file.done();
    let page = curves(&file, "");
    let chart = &page.charts[0];
    let ops: Vec<u32> = chart.lines.iter().map(|line| line.op).collect();
    assert_eq!(ops, [13, 14, 15, 16, 17, 18, 19, 20], "those with the most points");
    assert_eq!((chart.lines_left_out, chart.ops_left_out[0]), (11, 2));
    assert!(page.html(&site()).into_string().contains("/n1/runs/r/curves?op=2"));
    let one = curves(&file, "op=2&y=log");
    assert_eq!((one.charts[0].lines.len(), one.charts[0].log), (1, true));
}

#[test]
fn extreme_and_constant_values_are_drawn() {
    let mut file = run_with_step();
    for value in ["-1.7e308", "1.7e308", "0", "5e-324"] {
        file.checkpoint("r", 1, 1, &format!(r#"{{"a":{value},"same":7,"text":"no"}}"#));
    }
    let file = file.done();
    for query in ["", "y=log"] {
        let html = curves(&file, query).html(&site()).into_string();
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert_eq!(html.contains("No log scale"), query == "y=log");
    }
}

#[test]
fn a_run_without_numbers_says_so() {
    let mut file = run_with_step();
    let empty = |page: &CurvesPage| page.html(&site()).into_string();
    file.run("other", "null", None);
    file.checkpoint("r", 1, 1, r#""text""#);
    let file = file.done();
    assert!(empty(&curves(&file, "")).contains("no numbers"));
    assert!(empty(&curves(&file, "op=7")).contains("This step has recorded no checkpoint"));
    let asked = CurvesQuery::default();
    let none = CurvesPage::read(&file.connection, &run_id("gone"), &asked);
    assert_eq!(none.unwrap_err().to_string(), "there is no run gone");
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    for query in ["op=x", "op=-1", "y=sqrt", "page=0", "page=x", "seq=x", "more=1"] {
        assert!(CurvesQuery::parse(query).is_err(), "{query}");
    }
    let asked = CurvesQuery::parse("op=&metric=a%20b&seq=7&page=2").unwrap();
    let seq = tidemill_model::Seq::new(7).ok();
    let expected = CurvesQuery { seq, op: None, metric: Some("a b".into()), log: false, page: 2 };
    assert_eq!(asked, expected);
}

#[test]
fn until_an_event_nothing_later_is_shown() {
    let mut file = run_with_step();
    for step in 0..5 {
        file.checkpoint("r", 1, 1, &format!(r#"{{"step":{step},"loss":1}}"#));
    }
    let file = file.done();
    let page = curves(&file, "seq=5");
    assert_eq!(page.checkpoints, 2);
    assert!(page.html(&site()).into_string().contains("curves?seq=5"));
}

#[test]
fn hostile_names_are_text() {
    let mut file = run_with_step();
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    for (attempt, step) in [(1, 1), (1, 2), (2, 2)] {
        let value = format!(r#"{{"step":{step},{hostile}:{step},"val":{{{hostile}:1}}}}"#);
        file.checkpoint("r", 1, attempt, &value);
    }
    let page = curves(&file.done(), "");
    assert_eq!(page.charts[0].lines.len(), 2);
    let html = page.html(&site()).into_string();
    assert!(html.contains("&lt;script&gt;"), "{html}");
    assert_harmless(&html);
}

/// A number that looks like noise, between 0 and 1.
fn noise(at: u32) -> f64 {
    f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24)
}

#[test]
fn three_hundred_thousand_points_are_a_small_page() {
    let mut file = run_with_step();
    for step in 0..300_000 {
        let (a, b) = (noise(step), noise(step ^ 0x5555));
        file.checkpoint("r", 1, 1, &format!(r#"{{"step":{step},"loss":{a},"val_loss":{b}}}"#));
    }
    let file = file.done();
    let page = curves(&file, "");
    let (json, html) = (serde_json::to_string(&page).unwrap(), page.html(&site()).into_string());
    assert!(html.contains("600,000 points") && page.charts[0].lines[0].points == 300_000);
    assert!(json.len() < 256 * 1024 && html.len() < 256 * 1024, "{} {}", json.len(), html.len());
    assert!(elements(&html) < 3_000);
    assert!(page.charts[0].lines[0].parts[0].points.len() > 1_000, "as many as the screen shows");
    assert_eq!(page, curves(&file, ""), "the same each time");
}

#[test]
fn the_most_that_a_run_can_record_is_a_small_page() {
    let mut file = run_with_step();
    for op in 2..20 {
        file.step("r", op, "null");
    }
    for step in 0..300 {
        for op in 1..20 {
            // Each attempt begins anew, with numbers of as many digits as there are.
            let fields: Vec<String> = (0..40)
                .map(|n| {
                    format!(r#""m<{}&\"{n}":{:e}"#, "&".repeat(90), -noise(step * 77 + op * n))
                })
                .collect();
            let value = format!(r#"{{"step":{}.123456789,{}}}"#, step % 20, fields.join(","));
            file.checkpoint("r", op, step / 20 + 1, &value);
        }
    }
    let page = curves(&file.done(), "");
    let (json, html) = (serde_json::to_string(&page).unwrap(), page.html(&site()).into_string());
    assert!(json.len() < 256 * 1024 && html.len() < 256 * 1024, "{} {}", json.len(), html.len());
    assert!(elements(&html) < 3_000, "{}", elements(&html));
}
