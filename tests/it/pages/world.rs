//! A node whose runs are all over, and an observer of it: shared by the tests that only look.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::machine::Machine;
use crate::support::observing::{Observer, Settings};

const BOUND: Duration = Duration::from_secs(60);

/// The node, and who observes it. They live as long as the test process, whose reaper ends them; on
/// a server that is not ours the bucket stays.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) bucket: Bucket,
    pub(crate) observer: Observer,
}

/// The shared world; the first test that asks makes it.
pub(crate) fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::new);
    &WORLD
}

/// Starts a run with labels.
#[track_caller]
pub(crate) fn start(api: &Api, id: &str, workflow: &str, input: &Value, labels: &Value) {
    let start = json!({ "workflow": workflow, "input": input, "id": id, "labels": labels });
    let reply = api.post("/v1/runs", &start).expect("the node answers");
    assert_eq!(reply.status, 201, "{reply:?}");
}

impl World {
    fn new() -> Self {
        let bucket = Bucket::new();
        let mut machine = Machine::new(&bucket, "seen", "n1");
        machine.start().wait_ready();
        let api = machine.api();
        let none = json!({});
        start(&api, "quick", "chain", &json!({ "steps": 1, "millis": 0 }), &none);
        start(
            &api,
            "longer",
            "chain",
            &json!({ "steps": 6, "millis": 20 }),
            &json!({ "team": "a" }),
        );
        start(&api, "failing", "flaky", &json!({ "failures": 9, "attempts": 3 }), &none);
        start(&api, "passed-on", "delegates", &json!({ "failures": 9, "attempts": 2 }), &none);
        start(&api, "stuck", "panics", &Value::Null, &none);
        let rates = json!({ "rates": [0.1, 0.2, 0.4, 0.8], "epochs": 8 });
        start(&api, "tuning", "tune", &rates, &json!({ "team": "b" }));
        for run in ["quick", "longer", "failing", "passed-on", "stuck", "tuning"] {
            api.wait_ended(run, BOUND);
        }
        machine.barrier_ok();
        let observer = Settings::of(&bucket).node(&api).start();
        Self { machine, bucket, observer }
    }

    /// The base of the node's pages as it is now.
    pub(crate) fn live(&self) -> String {
        self.observer.live(&self.machine.api())
    }

    /// The base of the node's pages as the bucket has it.
    pub(crate) fn latest(&self) -> String {
        format!("{}@latest", self.observer.node(&self.bucket, "n1"))
    }
}
