//! The node's HTTP API, end to end: a real process, real sockets, every error with its message.

use serde_json::{Value, json};

use crate::support::{self, Folder, Served, command};

#[test]
fn a_run_is_started_once_however_often_it_is_asked_for() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let body = json!({"workflow": "echo", "input": {"a": 1, "b": [2]}, "id": "r1",
        "labels": {"team": "search"}});
    let first = node.post("/v1/runs", &body);
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.body["id"], "r1");
    assert_eq!(first.body["workflow"], "echo");
    assert_eq!(first.body["labels"], json!({"team": "search"}));
    let end = node.ended("r1");
    assert_eq!((&end["status"], &end["output"]), (&json!("completed"), &json!({"a": 1, "b": [2]})));

    let same = json!({"workflow": "echo", "input": {"b": [2], "a": 1}, "id": "r1"});
    let again = node.post("/v1/runs", &same);
    assert_eq!((again.status, &again.body["status"]), (200, &json!("completed")));
    for (workflow, input) in [("echo", json!({"a": 2})), ("count", json!(1))] {
        let body = json!({"workflow": workflow, "input": input, "id": "r1"});
        let other = node.post("/v1/runs", &body);
        let message = other.error(409, "conflict");
        assert!(message.contains("there is a run `r1`"), "{workflow} {input}: {message}");
    }
    let named = node.post("/v1/runs", &json!({"workflow": "count", "input": 2}));
    assert_eq!(named.status, 201);
    assert_eq!(named.body["id"].as_str().unwrap().len(), 36, "a generated id is a UUID");
    node.stop();
}

#[test]
fn a_start_that_is_wrong_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let refused = |body: Value, status: u16, kind: &str, part: &str| {
        let reply = node.post("/v1/runs", &body);
        let message = reply.error(status, kind);
        assert!(message.contains(part), "{message}");
    };
    refused(
        json!({"workflow": "swim", "input": 1}),
        404,
        "not_found",
        "count, echo, fails, mendable, nap, order, publish, slow",
    );
    refused(json!([]), 400, "invalid", "it is JSON, but not an object");
    let missing = "workflow `count` needs an input, and none was given: it expects u32";
    refused(json!({"workflow": "count"}), 400, "invalid", missing);
    refused(json!({"workflow": "count", "input": null}), 400, "invalid", missing);
    let unread =
        "workflow `count` cannot read this input: invalid type: string \"many\", expected u32";
    refused(json!({"workflow": "count", "input": "many"}), 400, "invalid", unread);
    refused(json!({"input": 1}), 400, "invalid", "missing field `workflow`");
    refused(
        json!({"workflow": "echo", "input": 1, "lables": {}}),
        400,
        "invalid",
        "unknown field `lables`",
    );
    refused(json!({"workflow": "echo", "input": 1, "id": "../x"}), 400, "invalid", "`../x`");
    refused(
        json!({"workflow": "echo", "input": 1, "id": "a".repeat(129)}),
        400,
        "invalid",
        "run id",
    );
    let labels: serde_json::Map<String, Value> =
        (0..33).map(|n| (format!("l{n}"), json!("x"))).collect();
    refused(json!({"workflow": "echo", "input": 1, "labels": labels}), 400, "invalid", "32");
    refused(
        json!({"workflow": "echo", "input": 1, "labels": {"a\n": "x"}}),
        400,
        "invalid",
        "a label has a bad name, `a `: use 1 to 200 bytes without control characters",
    );
    let ring = format!("\u{7}{}", "x".repeat(300));
    let cut = format!("label `a` has a bad value, `\\u{{7}}{}…`: use 1 to", "x".repeat(79));
    refused(json!({"workflow": "echo", "input": 1, "labels": {"a": ring}}), 400, "invalid", &cut);
    refused(json!({"workflow": "echo", "input": 1, "labels": {"a": 1}}), 400, "invalid", "string");

    let large = "x".repeat(1024 * 1024);
    refused(json!({"workflow": "echo", "input": large}), 400, "invalid", "1048576");
    let larger = "x".repeat(3 * 1024 * 1024);
    refused(json!({"workflow": "echo", "input": larger}), 413, "too_large", "2097152 bytes");

    let post = |content_type: &str, body: &str| node.post_text("/v1/runs", content_type, body);
    let reply = post("application/json", "{\"workflow\": ");
    assert!(reply.error(400, "invalid").contains("EOF"), "{reply:?}");
    let reply = post("text/plain", r#"{"workflow": "echo", "input": 1}"#);
    assert!(reply.error(415, "unsupported_media_type").contains("Content-Type: application/json"));
    assert_eq!(node.get("/v1/runs").body["runs"], json!([]), "nothing of it was started");
    node.stop();
}

#[test]
fn what_is_not_there_is_not_found_and_says_where_to_look() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    for path in [
        "",
        "/events",
        "/events?follow=true",
        "/operations",
        "/operations/1",
        "/result",
        "/result?wait=1s",
    ] {
        let reply = node.get(&format!("/v1/runs/nobody{path}"));
        let message = reply.error(404, "not_found");
        assert!(message.contains("`nobody`"), "{path}: {message}");
    }
    let reply = node.post("/v1/runs/nobody/resume", &json!({}));
    assert!(reply.error(404, "not_found").contains("`nobody`"));
    let reply = node.get("/v1/rums");
    let said = reply.error(404, "not_found");
    assert_eq!(said, "there is no /v1/rums: GET /v1 lists what there is");
    let reply = node.post("/v1/snapshot", &json!({}));
    assert!(reply.error(405, "method_not_allowed").contains("does not take POST"));
    for (path, part) in [
        (
            "/v1/runs?state=x",
            "no parameter `state` here: use status, workflow, label, limit, after",
        ),
        ("/v1/runs?status=swimming", "use pending, running"),
        ("/v1/runs?limit=0", "use 1 to 1000"),
        ("/v1/runs?limit=1001", "use 1 to 1000"),
        ("/v1/runs?after=x", "use a decimal number"),
        ("/v1/runs?limit=1&limit=2", "given twice"),
        ("/v1/runs/r?verbose=1", "no parameter `verbose`"),
        ("/v1/runs/..%2Fx", "invalid run id"),
        ("/v1/runs/r/operations?after=x", "use a decimal number from 0"),
        ("/v1/runs/r/operations?limit=10001", "use 1 to 10000"),
        ("/v1/runs/r/operations?whole=1", "`whole` is wrong"),
        ("/v1/runs/r/operations/x", "use a decimal number from 0"),
        ("/v1/runs/r/events?after=-1", "use a decimal number"),
        ("/v1/runs/r/events?follow=yes", "`follow` is wrong"),
        ("/v1/runs/r/result?wait=30", "such as 500ms, 30s or 2m, up to 300s"),
        ("/v1/runs/r/result?wait=301s", "up to 300s"),
    ] {
        let reply = node.get(path);
        let message = reply.error(400, "invalid");
        assert!(message.contains(part), "{path}: {message}");
    }
    node.stop();
}

#[test]
fn runs_are_listed_by_status_and_workflow_and_page_by_page() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    for n in 0..5 {
        node.start_run(&format!("c{n}"), "count", &json!(n));
        node.ended(&format!("c{n}"));
    }
    node.start_run("n", "nap", &json!(600_000));
    node.start_run("f", "fails", &json!("no luck"));
    node.ended("f");
    let ids = |query: &str| {
        let list = node.get(&format!("/v1/runs{query}"));
        assert_eq!(list.status, 200, "{list:?}");
        let ids: Vec<String> = list.body["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["id"].as_str().unwrap().to_owned())
            .collect();
        (ids.join(" "), list.body["next"].clone())
    };
    assert_eq!(ids("").0, "f n c4 c3 c2 c1 c0");
    assert_eq!(ids("?status=completed&workflow=count").0, "c4 c3 c2 c1 c0");
    assert_eq!(ids("?status=failed").0, "f");
    assert_eq!(ids("?status=blocked"), (String::new(), Value::Null));
    assert_eq!(ids("?workflow=nap&status=").0, "n");
    let (first, next) = ids("?workflow=count&limit=2");
    assert_eq!(first, "c4 c3");
    let (second, next) = ids(&format!("?workflow=count&limit=2&after={next}"));
    assert_eq!(second, "c2 c1");
    assert_eq!(ids(&format!("?workflow=count&limit=2&after={next}")), ("c0".into(), Value::Null));
    let failed = node.get("/v1/runs/f").body;
    assert_eq!(failed["error"]["kind"], "failed");
    assert_eq!(failed["operations"][0]["error"]["message"], "no luck");
    let nap = node.get("/v1/runs/n").body;
    assert_eq!((&nap["status"], &nap["operations_total"]), (&json!("suspended"), &json!(1)));
    assert_eq!(nap["operations"][0]["kind"], "timer");
    assert_eq!(nap["operations"][0]["status"], "open");
    node.stop();
}

#[test]
fn events_come_in_pages_and_as_a_stream_that_ends_with_the_run() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("r", "slow", &json!(300));
    let stream = node.stream("/v1/runs/r/events?follow=true", None);
    let seqs: Vec<u64> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse().unwrap())
        .collect();
    let kinds: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds.first(), Some(&"run_created"));
    assert_eq!(kinds.last(), Some(&"run_completed"));
    assert!(kinds.contains(&"step_started") && kinds.contains(&"step_completed"), "{kinds:?}");

    let all = node.get("/v1/runs/r/events").body;
    let listed: Vec<u64> =
        all["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(listed, seqs);
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let streamed: Value = data.map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert_eq!(streamed, all["events"]);
    assert!(all["events"][0]["sum"].is_string(), "{all}");
    assert_eq!(all["next"], Value::Null);
    assert_eq!(all["events"][0]["data"]["input"], 300);
    let page = node.get("/v1/runs/r/events?limit=2").body;
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    let after = page["next"].as_u64().unwrap();
    let rest = node.get(&format!("/v1/runs/r/events?after={after}")).body;
    assert_eq!(rest["events"].as_array().unwrap().len(), seqs.len() - 2);

    let last = seqs.last().unwrap().to_string();
    let before = seqs[seqs.len() - 2].to_string();
    let tail = node.stream("/v1/runs/r/events?follow=true", Some(&before));
    assert_eq!(tail.matches("event: ").count(), 1, "{tail}");
    assert_eq!(node.stream(&format!("/v1/runs/r/events?follow=true&after={last}"), None), "");
    node.stop();
}

#[test]
fn a_stream_has_the_end_of_its_run_however_busy_the_node_is() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (node, id) = (&node, format!("r{number}"));
            scope.spawn(move || {
                node.start_run(&id, "count", &json!(20 + 5 * number));
                let stream = node.stream(&format!("/v1/runs/{id}/events?follow=true"), None);
                let mut kinds = stream.lines().filter_map(|line| line.strip_prefix("event: "));
                assert_eq!(kinds.next_back(), Some("run_completed"), "{id}");
            });
        }
    });
    node.stop();
}

#[test]
fn a_result_is_waited_for_and_told_whatever_it_is() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("s", "slow", &json!(700));
    let early = node.get("/v1/runs/s/result");
    assert_eq!(early.status, 202, "{early:?}");
    assert_eq!(early.body["output"], Value::Null);
    assert_eq!(node.get("/v1/runs/s/result?wait=10ms").status, 202);
    assert_eq!(node.ended("s")["output"], 700);
    node.start_run("f", "fails", &json!("no luck"));
    let failed = node.ended("f");
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"]["message"], "`fail` failed: no luck");
    let listed = node.get("/v1/runs?status=failed");
    assert_eq!(listed.body["runs"][0]["error"]["message"], "`fail` failed: no luck");
    node.stop();
}

#[test]
fn a_blocked_run_says_why_and_is_tried_again_when_it_is_resumed() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    let blocked = node.ended("m");
    assert_eq!(blocked["status"], "blocked");
    assert_eq!(blocked["blocked"]["kind"], "panic");
    let reply = node.get("/v1/runs/m/result");
    let message = reply.error(409, "blocked");
    assert!(message.starts_with("run `m` is blocked: the workflow panicked: not mended yet; what"));
    let listed = node.get("/v1/runs?status=blocked");
    assert_eq!(listed.body["runs"][0]["blocked"]["asked"], "the workflow panicked: not mended yet");
    assert_eq!(listed.body["counts"]["blocked"], 1, "{listed:?}");
    assert_eq!(listed.body["counts"]["completed"], 0);
    assert!(blocked["blocked"].to_string().contains("not mended yet"), "{blocked}");

    node.start_run("c", "count", &json!(1));
    node.ended("c");
    let reply = node.post("/v1/runs/c/resume", &json!({}));
    assert!(reply.error(409, "conflict").contains("`c`"), "{reply:?}");

    let again = node.post("/v1/runs/m/resume?wait=20s", &json!({}));
    assert_eq!((again.status, &again.body["status"]), (200, &json!("blocked")), "{again:?}");
    assert_eq!(again.body["blocked"]["kind"], "panic");
    std::fs::write(&mend, "").unwrap();
    let resumed = node.post("/v1/runs/m/resume?wait=20s", &json!({}));
    assert_eq!((resumed.status, &resumed.body["status"]), (200, &json!("completed")));
    assert_eq!(node.ended("m")["output"], "mended");
    node.stop();
}

#[test]
fn a_snapshot_is_a_whole_file_of_one_moment_while_runs_go_on() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("busy", "count", &json!(2_000));
    for n in 0..3 {
        let (status, bytes) = node.bytes("/v1/snapshot");
        assert_eq!(status, 200);
        let copy = folder.join(&format!("copy{n}.db"));
        std::fs::write(&copy, bytes).unwrap();
        let file = tidemill_eventlog::open_snapshot(&copy).unwrap();
        let report = tidemill_eventlog::fsck(&file).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.runs, 1);
    }
    assert!(!folder.join("workflow.db.snapshot").exists(), "nothing is left beside the file");
    assert_eq!(node.ended("busy")["output"], 2_001_000);
    node.stop();
}

#[test]
fn off_loopback_a_token_is_required() {
    let folder = Folder::new();
    let db = folder.db();
    let serve = ["serve", "--db", &db, "--listen", "0.0.0.0:0"];
    let refused = command(&serve).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = support::text(&refused.stderr);
    assert!(message.contains("set TIDEMILL_TOKEN"), "{message}");
    let weak = command(&serve).env("TIDEMILL_TOKEN", "short").output().unwrap();
    assert!(support::text(&weak.stderr).contains("at least 16"), "{weak:?}");
    assert!(!folder.join("workflow.db").exists(), "refused before anything was opened");

    let token = "0123456789abcdef0123";
    let mut serving = command(&serve);
    serving.env("TIDEMILL_TOKEN", token);
    let node = Served::spawn(serving);
    assert_eq!(node.get("/v1/health").status, 200);
    let reply = node.get("/v1/runs");
    assert!(reply.error(401, "unauthorized").contains("Authorization: Bearer"));
    let node = node.with_token("0123456789abcdef0124");
    assert!(node.get("/v1/runs").error(401, "unauthorized").contains("is wrong"));
    let reply = node.post("/v1/runs", &json!({"workflow": "echo", "input": 1}));
    assert_eq!(reply.status, 401);
    let node = node.with_token(token);
    assert_eq!(node.get("/v1/runs").status, 200);

    let url = node.url.clone();
    let start = ["start", "count", "3", "--url", &url];
    let without = support::call(&start);
    assert!(support::text(&without.stderr).contains("wants a bearer token"), "{without:?}");
    let with = command(&start).env("TIDEMILL_TOKEN", token).output().unwrap();
    assert_eq!(with.status.code(), Some(0), "{with:?}");
    node.stop();
}

#[test]
fn without_a_token_a_strange_web_page_gets_nothing() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let body = json!({"workflow": "echo", "input": 1, "id": "theirs"});
    let strange = |header: &str, value: &str, part: &str| {
        let reply = node.post_with(&[(header, value)], "/v1/runs", &body);
        let message = reply.error(403, "forbidden").to_owned();
        assert!(message.contains(part) && message.contains("TIDEMILL_TOKEN"), "{message}");
    };
    strange("host", "rebound.example:7420", "not to `rebound.example:7420`");
    strange("origin", "https://page.example", "web page of `https://page.example`");
    assert_eq!(node.get("/v1/runs/theirs").status, 404, "nothing was started");
    let own = node.url.clone();
    assert_eq!(node.post_with(&[("origin", &own)], "/v1/runs", &body).status, 201);
    node.stop();
}

#[test]
fn health_says_what_this_is() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let health = node.get("/v1/health");
    assert_eq!(health.status, 200);
    assert_eq!(
        (&health.body["app"], &health.body["version"]),
        (&json!("http-app"), &json!("1.2.3"))
    );
    assert_eq!((&health.body["gate"], &health.body["node"]), (&json!("open"), &Value::Null));
    assert_eq!(health.body["workflows"].as_array().unwrap().len(), 8);
    node.stop();
}

#[test]
fn a_node_whose_file_takes_nothing_is_not_ready_until_it_does() {
    use tidemill_eventlog::{Checkpoints, open_writer};
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let other = open_writer(&folder.join("workflow.db"), Checkpoints::Own).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = json!({"workflow": "count", "input": 1, "id": "r1"});
    let refused = node.post("/v1/runs", &body);
    assert!(refused.error(503, "unavailable").contains("write lock"), "{refused:?}");
    let health = node.get("/v1/health");
    let said = "another process has the file's write lock: nothing is recorded";
    assert_eq!((health.status, &health.body["status"]), (503, &json!(said)), "{health:?}");
    assert_eq!(health.body["gate"], "open", "{health:?}");
    assert_eq!(node.get("/v1/live").status, 200, "a restart would not help");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(node.post("/v1/runs", &body).status, 201);
    assert_eq!(node.get("/v1/health").status, 200);
    node.stop();
}

/// A log that an earlier version wrote: operation 1 starts twice, so that no version can read it.
fn write_two_starts(path: &std::path::Path) {
    use tidemill_eventlog::{Appender, Checkpoints, create, open_writer, projection};
    use tidemill_model::{
        BlockReason, BlockReasonKind, Durability, Event, Json, OpId, OpName, RunCreated, RunId,
        RunStatus, Seed, Timestamp,
    };
    let start =
        |name| Event::StepStarted { op: OpId::FIRST, name, input: Json::null(), queued: false };
    let created = RunCreated {
        workflow: OpName::new("count").unwrap(),
        input: Json::of(&3).unwrap(),
        labels: std::collections::BTreeMap::new(),
        seed: Seed::from_random([0; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    };
    let reason = BlockReason {
        kind: BlockReasonKind::Misuse,
        op: None,
        logged: None,
        asked: Some("ctx.step() was called outside the run's own turn".to_owned()),
        advice: "do not".to_owned(),
    };
    let events = [
        Event::RunCreated(Box::new(created)),
        start(OpName::new("off").unwrap()),
        start(OpName::new("on").unwrap()),
        Event::RunBlocked { reason },
    ];
    create(path).unwrap();
    let connection = open_writer(path, Checkpoints::Own).unwrap();
    let mut appender = Appender::load(&connection).unwrap();
    let run: RunId = "odd".parse().unwrap();
    let now = Timestamp::from_micros(1).unwrap();
    for event in &events {
        let at = appender.append(&connection, now, Some(&run), event).unwrap();
        appender.committed();
        projection::project(&connection, at, Some(&run), event).unwrap();
    }
    let last = appender.head().seq;
    projection::set_status(&connection, &run, RunStatus::Blocked, Some(last)).unwrap();
}

#[test]
fn a_run_whose_log_cannot_be_read_is_shown_as_blocked_everywhere() {
    let folder = Folder::new();
    write_two_starts(&folder.join("workflow.db"));
    let node = Served::start(&folder.db());
    let is_blocked = |status: u16, reply: &support::Reply| {
        let said = (reply.status, &reply.body["status"]);
        assert_eq!(said, (status, &json!("blocked")), "{reply:?}");
        let reason = &reply.body["blocked"];
        assert_eq!(reason["kind"], "unreadable_log", "{reply:?}");
        let logged = reason["logged"].as_str().unwrap();
        assert_eq!(logged, "event 3: operation 1 starts a second time");
    };
    is_blocked(409, &node.get("/v1/runs/odd/result?wait=30s"));
    let shown = node.get("/v1/runs/odd");
    is_blocked(200, &shown);
    assert_eq!(shown.body["operations"][0]["name"], "off", "what fits is shown");
    let resumed = node.post("/v1/runs/odd/resume", &json!({}));
    assert_eq!(resumed.status, 200, "{resumed:?}");
    is_blocked(409, &node.get("/v1/runs/odd/result?wait=30s"));
    let listed = node.get("/v1/runs?status=blocked");
    assert_eq!(listed.body["runs"][0]["id"], "odd");
    node.stop();
}

#[test]
fn a_block_that_cannot_be_written_is_shown_everywhere() {
    use tidemill_eventlog::{Checkpoints, open_writer};
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let other = open_writer(&folder.join("workflow.db"), Checkpoints::Own).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER t BEFORE INSERT ON events WHEN NEW.run LIKE 'bad%' AND \
             NEW.kind <> 'run_created' BEGIN SELECT RAISE(ABORT, 'not in this house'); END;",
        )
        .unwrap();
    for id in ["bad-1", "good", "bad-2"] {
        let started = node.post("/v1/runs", &json!({"workflow": "count", "input": 2, "id": id}));
        assert_eq!(started.status, 201, "{started:?}");
    }
    assert_eq!(node.ended("good")["status"], "completed");
    for id in ["bad-1", "bad-2"] {
        let ended = node.get(&format!("/v1/runs/{id}/result?wait=30s"));
        assert_eq!((ended.status, &ended.body["status"]), (409, &json!("blocked")), "{ended:?}");
        let shown = node.get(&format!("/v1/runs/{id}"));
        assert_eq!(shown.body["blocked"]["kind"], "refused", "{shown:?}");
        let asked = shown.body["blocked"]["asked"].as_str().unwrap();
        assert!(asked.contains("not in this house"), "{asked}");
    }
    let listed = |query: &str| {
        let list = node.get(&format!("/v1/runs{query}"));
        let runs = list.body["runs"].as_array().unwrap().clone();
        let ids: Vec<String> =
            runs.iter().map(|run| format!("{}={}", run["id"], run["status"])).collect();
        (ids.join(" ").replace('"', ""), list.body["next"].as_u64())
    };
    let (all, next) = listed("");
    assert_eq!((all.as_str(), next), ("bad-2=blocked good=completed bad-1=blocked", None));
    assert_eq!(listed("?status=pending").0, "");
    let page = node.get("/v1/runs");
    assert_eq!(page.body["runs"][0]["blocked"]["kind"], "refused", "{page:?}");
    let counts = &page.body["counts"];
    assert_eq!((&counts["blocked"], &counts["completed"]), (&json!(2), &json!(1)), "{counts}");
    assert_eq!(listed("?status=blocked").0, "bad-2=blocked bad-1=blocked");
    let (first, next) = listed("?status=blocked&limit=1");
    assert_eq!(first, "bad-2=blocked");
    let after = next.unwrap();
    assert_eq!(listed(&format!("?status=blocked&after={after}")).0, "bad-1=blocked");
    other.execute_batch("DROP TRIGGER t").unwrap();
    for id in ["bad-1", "bad-2"] {
        assert_eq!(node.post(&format!("/v1/runs/{id}/resume"), &json!({})).status, 200);
        assert_eq!(node.ended(id)["status"], "completed");
    }
    node.stop();
}

#[test]
fn the_api_says_what_it_is() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let (status, table) = node.bytes("/v1");
    let table = support::text(&table);
    assert_eq!(status, 200);
    assert!(table.starts_with("http-app 1.2.3, a node of Tidemill "), "{table}");
    assert!(table.contains("\nworkflows: count, echo, "), "{table}");
    let help = support::text(&support::call(&["serve", "--help"]).stdout);
    for line in table.lines().skip(3) {
        assert!(help.contains(line.trim()), "serve --help lacks {line}");
    }
    let document = node.get("/v1/openapi.json").body;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 12, "{paths:?}");
    for (path, methods) in paths {
        assert!(table.contains(path.as_str()), "{path}");
        for method in methods.as_object().unwrap().keys() {
            let asked = path.replace("{id}", "nobody").replace("{op}", "1");
            let status = match method.as_str() {
                "get" => node.bytes(&asked).0,
                _ => node.post(&asked, &json!({})).status,
            };
            assert_ne!(status, 405, "{method} {path}");
        }
    }
    node.stop();
}
