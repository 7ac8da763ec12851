//! Samples for this crate's tests.

use std::collections::BTreeMap;

use tidemill_model::{Durability, Json, OpName, RunCreated, Seed};

/// The creation of a run of workflow `w` without input or parent.
pub(crate) fn created() -> RunCreated {
    RunCreated {
        workflow: OpName::new("w").unwrap(),
        input: Json::null(),
        labels: BTreeMap::new(),
        seed: Seed::from_random([0; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }
}
