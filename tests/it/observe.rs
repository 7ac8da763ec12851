//! The observer as a service: one restore for all who ask, what it does without the bucket, and its
//! JSON at the addresses of pages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::process::{self, Process};
use crate::support::proxy::{Line, Proxy};
use crate::support::{procfs, scratch, timeline, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A service, and a client of it.
struct Observer {
    process: Process,
    api: Api,
    cache: PathBuf,
}

impl Observer {
    /// Starts `tidemill observe` of a fleet, reached through `endpoint` if one is named.
    fn start(bucket: &Bucket, endpoint: Option<&str>, args: &[&str]) -> Observer {
        let cache = scratch::folder("observed");
        let mut environment = process::environment(bucket);
        if let Some(endpoint) = endpoint {
            environment.push(("AWS_ENDPOINT_URL".to_owned(), endpoint.to_owned()));
        }
        Observer::with(bucket, &environment, cache, args)
    }

    fn with(
        bucket: &Bucket,
        environment: &[(String, String)],
        cache: PathBuf,
        args: &[&str],
    ) -> Observer {
        Observer::of(Command::new(tools::tidemill()), bucket, environment, cache, args)
    }

    /// One that cannot write a file of more than so many KiB, and whose Litestream cannot either: to
    /// them the disk of the cache is full.
    fn with_full_disk(bucket: &Bucket, cache: PathBuf, kib: u32) -> Observer {
        let mut command = Command::new("sh");
        // In blocks of 512 bytes. What exceeds it is an error, not the end of the process.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
        command.args(["-c", &script, "sh"]).arg(tools::tidemill());
        Observer::of(command, bucket, &process::environment(bucket), cache, &[])
    }

    fn of(
        mut command: Command,
        bucket: &Bucket,
        environment: &[(String, String)],
        cache: PathBuf,
        args: &[&str],
    ) -> Observer {
        process::reach(&mut command, environment);
        command.env("TIDEMILL_CACHE", &cache);
        command.args(["observe", "--listen", "127.0.0.1:0", "--watch-every", "1"]);
        command.args(["--bucket", &bucket.fleet()]).args(args);
        let log = scratch::folder("observe").join("observe.log");
        let process = Process::spawn("tidemill observe", &mut command, &log);
        let base = wait::until("the service", BOUND, || {
            let log = process.log();
            let (_, address) = log.split_once(" at http://")?;
            let (address, _) = address.split_once('\n')?;
            Some(format!("http://{address}"))
        });
        Observer { process, api: Api::new(base), cache }
    }

    /// The JSON of an address that answers with 200.
    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let reply = self.api.get(path).expect("the service answers");
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    /// What a browser gets at an address.
    #[track_caller]
    fn page(&self, path: &str) -> Reply {
        self.api.page(path).expect("the service answers")
    }

    /// Ends it as a supervisor does.
    #[track_caller]
    fn end(mut self) {
        self.process.signal(rustix::process::Signal::TERM);
        assert_eq!(process::code(self.process.wait(BOUND)), 0, "{}", self.process.log());
    }
}

/// A machine with some runs in the bucket, which has gone.
pub(crate) fn node_with_runs(bucket: &Bucket, ledger: &Ledger) -> (Machine, Vec<(u64, u64)>) {
    let mut vm = Machine::new(bucket, "vm", "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    for n in 0..3 {
        let id = format!("r{n}");
        vm.api().start(&id, "chain", &json!({ "steps": 2, "millis": 1 }));
        vm.api().wait_completed(&id, BOUND);
        vm.barrier_ok();
    }
    assert_eq!(vm.shut_down(), 0);
    let points = timeline::points(&vm);
    (vm, points)
}

pub(crate) fn path_of(bucket: &Bucket, node: &str, moment: &str) -> String {
    format!("{}/{node}@{moment}", bucket.fleet().replacen("s3://", "/s3/", 1))
}

pub(crate) fn exact((epoch, txid): (u64, u64)) -> String {
    format!("e{epoch}:{txid:016x}")
}

/// A program that writes a line for each restore, and is Litestream.
fn counting_litestream(lines: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = scratch::folder("counting").join("litestream");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = restore ] && echo restore >> '{}'\nexec '{}' \"$@\"\n",
        lines.display(),
        tools::litestream().display()
    );
    std::fs::write(&path, script).expect("write the script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it run");
    path
}

#[test]
fn a_moment_is_restored_once_for_all_who_ask_and_nothing_runs_in_it() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (mut vm, points) = node_with_runs(&bucket, &ledger);
    let before = std::fs::read(ledger.path()).expect("the ledger");
    let lines = scratch::folder("restores").join("lines");
    let mut environment = process::environment(&bucket);
    let counting = counting_litestream(&lines).display().to_string();
    environment.push(("TIDEMILL_LITESTREAM".to_owned(), counting));
    let observer = Observer::with(&bucket, &environment, scratch::folder("observed"), &[]);

    let moments: Vec<String> =
        points.iter().rev().take(2).map(|point| path_of(&bucket, "n1", &exact(*point))).collect();
    std::thread::scope(|scope| {
        for at in 0..16 {
            let (observer, moment) = (&observer, &moments[at % 2]);
            scope.spawn(move || observer.json(&format!("{moment}/runs")));
        }
    });
    let restores = std::fs::read_to_string(&lines).expect("restores were counted");
    assert_eq!(restores.lines().count(), 2, "one for each moment");

    // The same, as commands show it.
    let newest = &moments[0];
    let runs = observer.json(&format!("{newest}/runs"));
    assert_eq!((runs["total"].as_u64(), runs["runs"][0]["id"].as_str()), (Some(3), Some("r2")));
    let source = format!("{}/n1@{}", bucket.fleet(), exact(*points.last().expect("a point")));
    let listed = vm.tidemill(&["runs", "--json", "--from", &source]).json();
    assert_eq!(observer.json(&format!("{newest}/v1/runs"))["runs"], listed);
    let shown = vm.tidemill(&["show", "r1", "--json", "--from", &source]).json();
    assert_eq!(observer.json(&format!("{newest}/v1/runs/r1"))["operations"], shown["operations"]);
    let events = observer.json(&format!("{newest}/v1/runs/r1/events"));
    let lines = observer.api.bytes(&format!("{newest}/runs/r1/events.jsonl")).expect("lines");
    let lines = String::from_utf8(lines).expect("UTF-8");
    let lines: Vec<Value> =
        lines.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!(events["events"], json!(lines));
    let first = observer.json(&format!("{newest}/runs/r1?event=1"));
    assert_eq!((first["event"].as_u64(), first["total"].as_u64()), (Some(1), Some(0)));

    let count = observer.json(&format!("{newest}/sql?q=SELECT+count(*)+FROM+runs"));
    assert_eq!(count["answer"]["rows"], json!([[3]]));
    let refused = observer.json(&format!("{newest}/sql?q=DELETE+FROM+events"));
    assert!(refused["error"].as_str().is_some_and(|it| it.contains("only reading")), "{refused}");
    let csv = observer.api.bytes(&format!("{newest}/sql.csv?q=SELECT+run+FROM+runs+ORDER+BY+run"));
    assert_eq!(csv.expect("a file"), b"run\nr0\nr1\nr2\n");
    let copy = scratch::folder("copy").join("workflow.db");
    let bytes = observer.api.bytes(&format!("{newest}/v1/snapshot")).expect("a file");
    std::fs::write(&copy, bytes).expect("write the copy");
    vm.tidemill(&["fsck", copy.to_str().expect("UTF-8")]).ok();

    let after = std::fs::read(ledger.path()).expect("the ledger");
    assert_eq!(after, before, "opening a moment runs nothing");
    observer.end();
    vm.destroy();
}

#[test]
fn without_the_bucket_what_is_kept_opens_and_says_so() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let proxy = Proxy::new(&bucket);
    let observer = Observer::start(&bucket, Some(&proxy.endpoint()), &[]);
    let (first, last) = (exact(points[0]), exact(*points.last().expect("a point")));
    assert_eq!(observer.json(&path_of(&bucket, "n1", "latest/runs"))["total"], 3);

    proxy.set(Line::Cut);
    let known = || observer.json("/")["fleets"][0].clone();
    wait::until_true("the outage to be told", BOUND, || known()["problem"].is_string());
    assert_eq!(known()["nodes"][0]["node"], "n1", "what was read last stays");
    // A moment that moves is asked for again after some seconds; what was kept is then shown.
    let page = |moment: &str| {
        let address = path_of(&bucket, "n1", &format!("{moment}/runs"));
        let reply = observer.page(&address);
        (reply.status, reply.body.to_string())
    };
    let (status, shown) = wait::until("the kept snapshot", BOUND, || {
        let (status, shown) = page("latest");
        shown.contains("The bucket does not answer").then_some((status, shown))
    });
    assert_eq!(status, 200, "{shown}");
    assert!(shown.contains("There may be newer moments") && shown.contains("r2"), "{shown}");
    let (status, shown) = page(&last);
    assert_eq!(status, 200, "{shown}");
    let (status, shown) = page(&first);
    assert!(status == 503 && shown.contains(&format!("kept here are @{last}")), "{shown}");

    proxy.set(Line::Good);
    wait::until_true("the bucket again", BOUND, || known()["problem"].is_null());
    assert_eq!(page(&first).0, 200);
    observer.end();
}

#[test]
fn an_abandoned_restore_ends() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let proxy = Proxy::new(&bucket);
    let observer = Observer::start(&bucket, Some(&proxy.endpoint()), &[]);
    proxy.set(Line::Holding("GET"));
    let address = path_of(&bucket, "n1", &format!("{}/runs", exact(points[0])));
    let reply = observer.page(&address);
    assert_eq!(reply.status, 202, "{}", reply.body);
    assert!(reply.body.to_string().contains("Restoring"), "{}", reply.body);
    let children = || procfs::children(observer.process.pid()).len();
    assert_eq!(children(), 1, "Litestream restores");
    // A program waits for another moment all the time: nobody abandons that one.
    let waited = std::thread::scope(|scope| {
        let other = path_of(&bucket, "n1", &format!("{}/runs", exact(points[1])));
        let (api, asked) = (observer.api.clone(), other.clone());
        let program = scope.spawn(move || api.get(&asked).expect("an answer"));
        wait::until_true("its restore to begin", BOUND, || children() == 2);
        wait::until_true("the other one to end", BOUND, || children() == 1);
        proxy.set(Line::Good);
        program.join().expect("it ended")
    });
    assert_eq!(waited.status, 200, "{}", waited.body);
    let left = || std::fs::read_dir(&observer.cache).expect("a folder").filter_map(Result::ok);
    wait::until_true("its folder to go", BOUND, || {
        !left().any(|it| it.file_name().to_string_lossy().starts_with(".tidemill-restore-"))
    });
    wait::until_true("it to open after all", BOUND, || observer.page(&address).status == 200);
    observer.end();
}

#[test]
fn a_break_without_an_end_needs_a_human_and_one_node_does_not_hide_the_others() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let observer = Observer::start(&bucket, None, &[]);
    let needs = || observer.json("/")["needs"].clone();
    let has = |text: &str| needs().to_string().contains(text);
    assert!(!has("break"), "{}", needs());

    let (epoch, after) = points[0];
    let key =
        |after: u64| format!("fleet/nodes/n1/epochs/{epoch:010}/breaks/{after:016x}-open.json");
    let doc = json!({
        "v": 1, "after": format!("{after:016x}"), "until": null,
        "reason": "a hot journal was found", "at": "2026-11-20T10:00:00.000000Z",
    });
    bucket.put(&key(after), doc.to_string());
    wait::until_true("the break to be seen", BOUND, || has("a hot journal was found"));
    assert!(has(&format!("no moment after transaction {after:016x} opens")), "{}", needs());
    assert!(observer.page("/").body.to_string().contains("a hot journal was found"));

    // What cannot be read is said of its node; the fleet is shown as before.
    bucket.put(&key(after + 1), "{");
    wait::until_true("the damage to be seen", BOUND, || has("breaks/"));
    assert_eq!(observer.json("/")["fleets"][0]["problem"], Value::Null);
    observer.end();
}

#[test]
fn a_cache_whose_disk_is_full_refuses_a_restore_and_opens_what_is_kept() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let (kept, other) = (path_of(&bucket, "n1", &exact(points[0])), points[points.len() - 1]);
    let (other, cache) = (path_of(&bucket, "n1", &exact(other)), scratch::folder("observed"));
    assert_ne!(kept, other);
    let observer = Observer::with(&bucket, &process::environment(&bucket), cache.clone(), &[]);
    let runs = observer.json(&format!("{kept}/v1/runs"))["runs"].clone();
    observer.end();

    let observer = Observer::with_full_disk(&bucket, cache.clone(), 16);
    let refused = observer.api.get(&format!("{other}/v1/runs")).expect("the service answers");
    assert!((500..600).contains(&refused.status), "{} {}", refused.status, refused.body);
    assert!(refused.body.to_string().contains("file too large"), "{}", refused.body);
    assert_eq!(observer.json(&format!("{kept}/v1/runs"))["runs"], runs, "what is kept opens");
    let left = std::fs::read_dir(&cache).expect("the cache").filter_map(Result::ok);
    let left: Vec<_> = left.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.starts_with(".tidemill-restore-")), "{left:?}");
    observer.end();
}
