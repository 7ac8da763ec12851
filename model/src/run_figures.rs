//! What the runs of a node do, in a few numbers: an app tells its sidecar, the heartbeat carries
//! it, and a fleet's view shows it of a node that nobody can reach any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::event_data::BlockReason;
use crate::name::RunId;
use crate::run_status::RunStatus;
use crate::run_view::RunCounts;
use crate::terminal;
use crate::time::Timestamp;

/// How much of a reason is told: enough for a line on a screen, and a lease stays small.
const REASON_CHARS_MAX: usize = 200;

/// The runs of a node, as its app told of them last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFigures {
    /// When the app counted them, by its clock. It tells again when something changes, and once a
    /// minute.
    pub at: Timestamp,
    /// How many runs have each status; a status that no run has is left out, and so is one that
    /// this version does not know.
    #[serde(deserialize_with = "known_statuses")]
    pub by_status: RunCounts,
    /// How many of them are blocked; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u64>,
    /// The run that has been blocked for the longest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<OldestBlocked>,
    /// How many steps completed in the minute before.
    pub steps_per_minute: u64,
}

/// A blocked run, of which a person should know first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldestBlocked {
    /// The run.
    pub run: RunId,
    /// Since when it is blocked; `None` while its file cannot take the event that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why, in words for a person: the beginning of it, safe to print. `None` if the app cannot
    /// read the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RunFigures {
    /// What an app tells.
    pub fn new(
        at: Timestamp,
        counts: RunCounts,
        oldest: Option<OldestBlocked>,
        steps_per_minute: u64,
    ) -> RunFigures {
        let blocked = counts.get(&RunStatus::Blocked).copied();
        RunFigures { at, by_status: counts, blocked, oldest, steps_per_minute }.bounded()
    }

    /// The same within the bounds that everything in a lease keeps: a sidecar does not rely on the
    /// app for that.
    #[must_use]
    pub fn bounded(mut self) -> RunFigures {
        self.by_status.retain(|_, count| *count > 0);
        self.blocked = self.blocked.filter(|count| *count > 0);
        if let Some(oldest) = &mut self.oldest {
            oldest.reason = oldest.reason.take().map(|reason| beginning(&reason));
        }
        self
    }

    /// Whether these say something else than `other`, whenever they were counted.
    pub fn differ_from(&self, other: &RunFigures) -> bool {
        RunFigures { at: other.at, ..self.clone() } != *other
    }
}

impl OldestBlocked {
    /// A blocked run with its reason.
    pub fn new(run: RunId, since: Option<Timestamp>, reason: Option<&BlockReason>) -> Self {
        OldestBlocked { run, since, reason: reason.map(|reason| beginning(&reason.why())) }
    }
}

/// One line, safe to print, of [`REASON_CHARS_MAX`] characters at most.
fn beginning(text: &str) -> String {
    let line = terminal::line(text);
    if line.chars().count() <= REASON_CHARS_MAX {
        return line.into_owned();
    }
    line.chars().take(REASON_CHARS_MAX - 1).chain(['…']).collect()
}

fn known_statuses<'de, D: Deserializer<'de>>(from: D) -> Result<RunCounts, D::Error> {
    let counts = BTreeMap::<String, u64>::deserialize(from)?;
    let known = |(status, count): (String, u64)| Some((status.parse().ok()?, count));
    Ok(counts.into_iter().filter_map(known).collect())
}

/// Reads figures beside something more important, which they must not make unreadable: `None` for
/// what this version does not understand.
pub(crate) fn if_readable<'de, D>(from: D) -> Result<Option<RunFigures>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_data::BlockReasonKind;

    fn at(n: i64) -> Timestamp {
        Timestamp::from_micros(n).unwrap()
    }

    fn figures(reason: &str) -> RunFigures {
        let reason = BlockReason {
            kind: BlockReasonKind::Panic,
            op: None,
            logged: None,
            asked: Some(reason.to_owned()),
            advice: String::new(),
        };
        let oldest = OldestBlocked::new(RunId::new("r1").unwrap(), Some(at(1)), Some(&reason));
        let counts = [(RunStatus::Blocked, 2), (RunStatus::Running, 1), (RunStatus::Paused, 0)];
        RunFigures::new(at(2), counts.into(), Some(oldest), 60)
    }

    #[test]
    fn a_reason_is_cut_and_made_safe_to_print() {
        let reason = |text: &str| figures(text).oldest.unwrap().reason.unwrap();
        assert_eq!(reason("no\ntable \u{1b}[2J"), "no table \\u{1b}[2J");
        assert_eq!(reason(&"é".repeat(200)), "é".repeat(200));
        let cut = reason(&"é".repeat(201));
        assert_eq!((cut.chars().count(), cut.ends_with("é…")), (200, true));
        // An app that keeps no bound is bounded by its sidecar.
        let mut loud = figures("x");
        loud.oldest.as_mut().unwrap().reason = Some("\u{7}".repeat(9_999));
        assert_eq!(loud.bounded().oldest.unwrap().reason.unwrap().chars().count(), 200);
    }

    #[test]
    fn only_the_time_of_the_count_does_not_count_as_a_change() {
        let (one, later) = (figures("x"), RunFigures { at: at(9), ..figures("x") });
        assert!(!later.differ_from(&one));
        assert!(RunFigures { steps_per_minute: 0, ..later }.differ_from(&one));
        assert_eq!(one.by_status.len(), 2, "no run is paused");
    }

    #[test]
    fn a_status_of_a_newer_version_is_passed_over() {
        let text = r#"{"at":"2026-11-20T10:00:00Z","by_status":{"running":1,"dreaming":2},
                       "steps_per_minute":3,"more":true}"#;
        let figures: RunFigures = serde_json::from_str(text).unwrap();
        assert_eq!(figures.by_status, [(RunStatus::Running, 1)].into());
    }
}
