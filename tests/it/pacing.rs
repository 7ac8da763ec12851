//! Lives that end badly, one after another: each costs the bucket a full copy, so they are paced.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::{Machine, Victim};
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

/// The lives in a row that did not end well, as the state file counts them.
fn failures(vm: &Machine) -> u64 {
    state(vm)["failures"]["count"].as_u64().unwrap_or(0)
}

fn state(vm: &Machine) -> Value {
    let bytes = std::fs::read(vm.dir().join("workflow.db.node.json")).expect("a state file");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// How many seconds the status says that it waits because of what came before.
fn waits(vm: &Machine, what: &str) -> Option<u64> {
    let status = vm.status()?;
    let problem = status["problem"].as_str()?;
    let (_, rest) = problem.split_once(&format!("{what} waits "))?;
    rest.split_once(" s,")?.0.parse().ok()
}

#[test]
fn a_command_that_fails_at_once_makes_few_epochs_and_its_wait_can_be_ended() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").paced().running("/bin/false");
    let mut told = 0;
    for _ in 0..20 {
        vm.start();
        let mut waiting = None;
        wait::until_true("the sidecar to end or to say that it waits", BOUND, || {
            waiting = waits(&vm, "the next claim");
            waiting.is_some() || vm.sidecar().is_none()
        });
        if waiting.is_some_and(|seconds| seconds > 2) {
            let before = bucket.epochs("n1");
            // One that waits to its end claims the next epoch, and ends with the command's code.
            assert_eq!(vm.shut_down(), 0, "nothing was begun");
            assert_eq!(bucket.epochs("n1"), before);
            told += 1;
        } else {
            assert_eq!(vm.wait_exit(BOUND), 1, "the command's own code");
        }
    }
    let epochs = bucket.epochs("n1");
    assert!((2..=9).contains(&epochs.len()) && told > 0, "{epochs:?}, {told} ended early");
    assert_eq!(failures(&vm), u64::try_from(epochs.len()).expect("few"));
    let lease = bucket.lease("n1").expect("a lease");
    assert_eq!(lease["released"], true, "what ends badly is given up at once: {lease}");
}

#[test]
fn commands_that_end_well_follow_one_another_at_once() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").paced().running("/bin/true");
    for _ in 0..6 {
        vm.start();
        assert_eq!(vm.wait_exit(BOUND), 0);
        assert_eq!(failures(&vm), 0);
    }
    assert_eq!(bucket.epochs("n1").len(), 6);
    assert!(!vm.log().contains("the next claim waits"), "a wait after a good end");
}

#[test]
fn an_end_that_was_asked_for_is_a_good_one_whatever_the_command_says() {
    let bucket = Bucket::new();
    let command = scratch::folder("command").join("waits");
    std::fs::write(&command, "#!/bin/sh\nexec sleep 600\n").expect("write a script");
    std::fs::set_permissions(&command, PermissionsExt::from_mode(0o755))
        .expect("make it a program");
    let command = command.to_str().expect("a test path in UTF-8");
    let mut vm = Machine::new(&bucket, "vm", "n1").paced().running(command);
    vm.start().wait_log("the command runs", BOUND);
    assert_eq!(failures(&vm), 1);
    assert_eq!(vm.shut_down(), 128 + 15, "the command's own code");
    assert_eq!(failures(&vm), 0);
}

#[test]
fn lives_that_are_killed_count_and_a_long_one_is_forgiven() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").paced().sidecar_args(&["--ttl", "3s"]);
    for life in 1..=3 {
        vm.start().wait_ready();
        assert_eq!(failures(&vm), life, "nobody could count it afterwards");
        vm.power_off();
    }
    let mut vm = vm.sidecar_args(&["--pace", "3s"]);
    vm.start().wait_ready();
    wait::until_true("the count to begin anew", BOUND, || failures(&vm) == 0);
    vm.power_off();
    vm.start().wait_ready();
    assert_eq!(failures(&vm), 1);
    assert_eq!(vm.shut_down(), 0);
    assert_eq!(failures(&vm), 0, "an end that was asked for is a good one");
}

#[test]
fn an_app_that_keeps_dying_beside_its_sidecar_is_cured_ever_more_slowly() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").paced().without_app();
    vm.start().wait_state("ready");
    let app = Settings::beside(&vm);
    // The fifth death is the first that waits for more than two seconds.
    for death in 1..=8 {
        app.start().kill();
        wait::until_true("the death to be noticed", BOUND, || {
            vm.log().matches(" curing ").count() == death
        });
        let mut seconds = None;
        wait::until_true("the cure to wait or to end", BOUND, || {
            seconds = waits(&vm, "the cure of its replica");
            seconds.is_some() || vm.status().is_some_and(|status| status["state"] == "ready")
        });
        if seconds.is_some_and(|seconds| seconds > 2) {
            break;
        }
        assert!(death < 8, "eight deaths in a row were cured at once");
        vm.wait_state("ready");
    }
    assert!(vm.litestream().is_none(), "nothing is shipped meanwhile");
    // Told to end it waits no longer: cure, barrier and release follow at once.
    assert_eq!(vm.shut_down(), 0);
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], true);
    assert!(vm.diverged().is_empty());
}

/// After so many failures the wait is far longer than any bound of this test.
#[test]
fn an_app_that_lives_waits_for_no_claim_and_a_cure_that_waits_can_be_hurried() {
    let bucket = Bucket::new();
    let mut vm =
        Machine::new(&bucket, "vm", "n1").paced().sidecar_args(&["--pace", "1h"]).without_app();
    vm.start().wait_state("ready");
    let mut app = Settings::beside(&vm).start();
    vm.kill(Victim::Sidecar);
    let mut state = state(&vm);
    state["failures"]["count"] = json!(15);
    std::fs::write(vm.dir().join("workflow.db.node.json"), state.to_string()).expect("write it");
    vm.start();
    wait::until_true("the app to be attached again", BOUND, || {
        vm.status().is_some_and(|status| status["app_pid"] == app.pid())
    });
    app.kill();
    wait::until_true("the cure to wait", BOUND, || {
        waits(&vm, "the cure of its replica").is_some_and(|seconds| seconds > 1_000)
    });
    assert_eq!(vm.shut_down(), 0);
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], true);
}
