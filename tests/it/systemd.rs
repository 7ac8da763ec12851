//! What a sidecar tells systemd from its start to its end, on a socket that plays systemd's.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::machine::{Machine, Victim};
use crate::support::proxy::{Line, Proxy};
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

/// The assignments that were received, in their order.
struct Manager {
    path: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen() -> Manager {
        let path = scratch::folder("systemd").join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the socket");
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend(message.lines().map(str::to_owned));
            }
        });
        Manager { path, said }
    }

    fn supervises(&self, vm: Machine) -> Machine {
        let path = self.path.to_str().expect("a test path in UTF-8");
        vm.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "1500000")
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, line: &str) -> usize {
        self.said().iter().filter(|said| *said == line).count()
    }

    #[track_caller]
    fn wait(&self, part: &str) {
        wait::until_true(part, BOUND, || self.said().iter().any(|said| said.contains(part)));
    }

    /// What was said, without the watchdog's food and without what differs from run to run.
    fn story(&self) -> Vec<String> {
        let kind = |said: String| match said.split_once(": ") {
            Some((_, told)) if said.starts_with("STATUS=") => {
                let words: Vec<&str> = told.split(' ').take(2).collect();
                words.join(" ")
            }
            Some(_) | None => said.split('=').next().unwrap_or_default().to_owned(),
        };
        let mut story: Vec<String> = self.said().into_iter().map(kind).collect();
        story.retain(|said| said != "WATCHDOG");
        story.dedup();
        story
    }
}

#[test]
fn a_take_over_asks_for_time_and_says_when_the_app_is_up_and_when_it_leaves() {
    let bucket = Bucket::new();
    let mut vm1 = Machine::new(&bucket, "vm-1", "n1").sidecar_args(&["--ttl", "6s"]);
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    vm1.api().wait_completed("r1", BOUND);
    vm1.barrier_ok();
    vm1.destroy();

    let manager = Manager::listen();
    let mut vm2 = manager.supervises(Machine::new(&bucket, "vm-2", "n1"));
    vm2.start();
    manager.wait("waiting for the node's holder");
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.said());
    assert!(manager.said().contains(&"EXTEND_TIMEOUT_USEC=60000000".to_owned()));
    vm2.wait_ready();
    manager.wait("READY=1");
    let app = vm2.app().expect("an app");
    let environment = std::fs::read(format!("/proc/{app}/environ")).expect("read it");
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("TIDEMILL_LEAVE_WITHIN=15250ms"), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET"), "{environment}");
    assert!(!environment.contains("WATCHDOG"), "{environment}");
    assert_eq!(vm2.shut_down(), 0);
    let story = manager.story();
    let order = ["waiting for", "READY", "STOPPING", "draining in"];
    let at = |wanted: &str| story.iter().position(|said| said == wanted);
    let found: Vec<_> = order.iter().map(|wanted| at(wanted)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{story:?}");
    assert_eq!(manager.count("READY=1"), 1);
    assert_eq!(manager.count("STOPPING=1"), 1);
}

#[test]
fn a_store_that_is_silent_does_not_starve_the_watchdog_and_a_loop_that_hangs_does() {
    let (bucket, manager) = (Bucket::new(), Manager::listen());
    let proxy = Proxy::new(&bucket);
    let vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    let mut vm = manager.supervises(vm).env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start().wait_ready();
    manager.wait("READY=1");
    proxy.set(Line::Silent);
    vm.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    manager.wait("STATUS=node n1: stalled");
    let fed = manager.count("WATCHDOG=1");
    wait::until_true("more signs of life", BOUND, || manager.count("WATCHDOG=1") > fed + 5);
    assert_eq!(manager.count("STOPPING=1"), 0);
    proxy.set(Line::Good);
    vm.api().wait_completed("r1", BOUND);
    vm.freeze();
    let fed = manager.count("WATCHDOG=1");
    wait::holds_for("no sign of life", Duration::from_secs(1), || {
        manager.count("WATCHDOG=1") == fed
    });
    vm.thaw();
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_sidecar_without_a_command_is_up_when_an_app_may_open_the_file() {
    let (bucket, manager) = (Bucket::new(), Manager::listen());
    let mut vm = manager.supervises(Machine::new(&bucket, "vm", "n1")).without_app();
    vm.start();
    manager.wait("READY=1");
    vm.kill(Victim::Litestream);
    manager.wait("litestream ended with signal 9");
    assert_eq!(vm.shut_down(), 0);
    assert_eq!(manager.story().last().map(String::as_str), Some("released in"));
}
