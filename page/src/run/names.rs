//! A run's operations by name: how many, how they ended, how long they took. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_model::{Op, OpId, OpStatus, Word, took_ms};

/// Names that are listed.
const NAMES_MAX: usize = 30;

/// Durations that are kept of one name; of more, every second, every fourth and so on.
const KEPT_MAX: usize = 4_096;

/// The operations of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NameView {
    /// The name.
    pub name: String,
    /// `step`, `timer` or `child`.
    pub kind: Word,
    /// How many there are.
    pub total: u64,
    /// How many have not ended.
    pub open: u64,
    /// How many failed for good.
    pub failed: u64,
    /// The first of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed: Option<OpId>,
    /// Half of those that ended took no longer, in milliseconds; of very many a sample.
    pub p50_ms: Option<u64>,
    /// The longest.
    pub max_ms: Option<u64>,
}

#[derive(Default)]
pub(super) struct Names(BTreeMap<(String, &'static str), Sum>);

struct Sum {
    view: NameView,
    durations: Vec<u64>,
    every: u64,
    ended: u64,
}

impl Names {
    pub(super) fn add(&mut self, id: OpId, op: &Op) {
        let key = (op.name.to_string(), op.kind.as_str());
        let sum = self.0.entry(key).or_insert_with(|| Sum {
            view: NameView {
                name: op.name.to_string(),
                kind: op.kind.as_str().into(),
                total: 0,
                open: 0,
                failed: 0,
                first_failed: None,
                p50_ms: None,
                max_ms: None,
            },
            durations: Vec::new(),
            every: 1,
            ended: 0,
        });
        sum.view.total += 1;
        match &op.status {
            OpStatus::Open => sum.view.open += 1,
            OpStatus::Failed(_) => {
                sum.view.failed += 1;
                sum.view.first_failed.get_or_insert(id);
            }
            OpStatus::Completed(_) | OpStatus::Cancelled(_) | OpStatus::Dropped => {}
        }
        if let Some(ms) = took_ms(op.started_at, op.ended_at) {
            sum.view.max_ms = sum.view.max_ms.max(Some(ms));
            if sum.ended.is_multiple_of(sum.every) {
                sum.durations.push(ms);
            }
            sum.ended += 1;
            if sum.durations.len() == KEPT_MAX {
                let mut keep = false;
                sum.durations.retain(|_| {
                    keep = !keep;
                    keep
                });
                sum.every *= 2;
            }
        }
    }

    pub(super) fn done(self) -> Vec<NameView> {
        let mut views: Vec<NameView> = self.0.into_values().map(Sum::done).collect();
        views.sort_by(|a, b| (b.failed, b.total, &a.name).cmp(&(a.failed, a.total, &b.name)));
        views.truncate(NAMES_MAX);
        views
    }
}

impl Sum {
    fn done(mut self) -> NameView {
        self.durations.sort_unstable();
        let middle = self.durations.len().saturating_sub(1) / 2;
        NameView { p50_ms: self.durations.get(middle).copied(), ..self.view }
    }
}
