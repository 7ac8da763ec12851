//! How long runs that have ended are kept: rules, and which rule decides about a run. Pure.
//!
//! A rule's text is `[LABEL=VALUE[,LABEL=VALUE…]:]KEEP`. `KEEP` is `always`, an age such as `12h` or
//! `30d`, a number of runs, or an age and a number, `30d,1000`: what exceeds either leaves. The first
//! rule whose labels a run has decides about it, and a run that no rule fits stays.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A run stays for this long after its end, whatever the rules say: who waits for its result comes
/// for it.
pub const KEPT_AT_LEAST: Duration = Duration::from_secs(60);

/// The longest age that a rule may name, a hundred years: a longer one is `always`.
const AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How many rules there may be.
const RULES_MAX: usize = 64;

/// Rules, in the order in which they are asked. `Default` has none and keeps everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<KeepRule>", into = "Vec<KeepRule>")]
pub struct Retention(Vec<KeepRule>);

impl Retention {
    /// # Errors
    /// More than 64 rules, or one that is never asked because one before it fits every run.
    pub fn new(rules: Vec<KeepRule>) -> Result<Retention, BadRetention> {
        if rules.len() > RULES_MAX {
            let count = rules.len();
            return Err(BadRetention(format!("there are {count} rules, and {RULES_MAX} may be")));
        }
        let general = rules.iter().position(|rule| rule.labels.is_empty());
        if let Some((general, dead)) =
            general.and_then(|at| Some((rules.get(at)?, rules.get(at + 1)?)))
        {
            return Err(BadRetention(format!(
                "the rule `{dead}` is never asked, because `{general}` before it fits every run: \
                 put the rule without labels last"
            )));
        }
        Ok(Retention(rules))
    }

    /// The rules.
    pub fn rules(&self) -> &[KeepRule] {
        &self.0
    }

    /// Whether no run ever leaves.
    pub fn keeps_all(&self) -> bool {
        self.0.iter().all(|rule| rule.keep == Keep::ALWAYS)
    }

    /// A judge of all ended runs of a file, which begins with the newest.
    pub fn judge(&self) -> RetentionJudge {
        RetentionJudge { rules: self.0.clone(), kept: vec![0; self.0.len()] }
    }
}

impl TryFrom<Vec<KeepRule>> for Retention {
    type Error = BadRetention;

    fn try_from(rules: Vec<KeepRule>) -> Result<Retention, BadRetention> {
        Retention::new(rules)
    }
}

impl From<Retention> for Vec<KeepRule> {
    fn from(retention: Retention) -> Vec<KeepRule> {
        retention.0
    }
}

/// One rule: which runs it is for, and how long they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeepRule {
    /// The labels that a run must have for this rule; empty for a rule for all runs.
    pub labels: BTreeMap<String, String>,
    /// How long such runs are kept.
    pub keep: Keep,
}

/// How long ended runs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// They leave when they ended longer ago than this; `None` for no bound.
    pub age: Option<Duration>,
    /// Only so many are kept, the newest; `None` for no bound.
    pub runs: Option<u64>,
}

impl Keep {
    /// They never leave.
    pub const ALWAYS: Keep = Keep { age: None, runs: None };
}

/// Rules that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRetention(String);

/// How a rule is written.
const HOW: &str = "write `30d` (also 90m, 12h), `1000` (runs), `30d,1000` or `always`, with labels \
                   before it as in `team=search:30d`";

impl FromStr for KeepRule {
    type Err = BadRetention;

    fn from_str(text: &str) -> Result<KeepRule, BadRetention> {
        let bad = || BadRetention(format!("`{text}` does not say what to keep: {HOW}"));
        let (labels, keep) = match text.rsplit_once(':') {
            Some((labels, keep)) => (labels_of(labels).ok_or_else(bad)?, keep),
            None => (BTreeMap::new(), text),
        };
        let keep = keep_of(keep).ok_or_else(bad)?;
        if keep.age.is_some_and(|age| age > AGE_MAX) {
            let message = format!("`{text}` keeps runs for over 100 years: write `always`");
            return Err(BadRetention(message));
        }
        Ok(KeepRule { labels, keep })
    }
}

fn labels_of(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for label in text.split(',') {
        let (name, value) = label.split_once('=')?;
        let is_new = labels.insert(name.to_owned(), value.to_owned()).is_none();
        if name.is_empty() || value.is_empty() || !is_new {
            return None;
        }
    }
    Some(labels)
}

fn keep_of(text: &str) -> Option<Keep> {
    if text == "always" {
        return Some(Keep::ALWAYS);
    }
    let mut keep = Keep::ALWAYS;
    for part in text.split(',') {
        match part.parse() {
            Ok(runs) if keep.runs.is_none() => keep.runs = Some(runs),
            Ok(_) => return None,
            Err(_) if keep.age.is_none() => keep.age = Some(age_of(part)?),
            Err(_) => return None,
        }
    }
    Some(keep)
}

/// An age such as `90s`, `45m`, `12h` or `30d`; `None` for any other text.
pub fn age_of(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

impl fmt::Display for KeepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{name}={value}", if place == 0 { "" } else { "," })?;
        }
        if !self.labels.is_empty() {
            f.write_str(":")?;
        }
        match (self.keep.age, self.keep.runs) {
            (None, None) => f.write_str("always"),
            (Some(age), None) => write_age(f, age),
            (None, Some(runs)) => write!(f, "{runs}"),
            (Some(age), Some(runs)) => {
                write_age(f, age)?;
                write!(f, ",{runs}")
            }
        }
    }
}

fn write_age(f: &mut fmt::Formatter<'_>, age: Duration) -> fmt::Result {
    let seconds = age.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit =
        units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    write!(f, "{}{name}", seconds / unit)
}

impl TryFrom<String> for KeepRule {
    type Error = BadRetention;

    fn try_from(text: String) -> Result<KeepRule, BadRetention> {
        text.parse()
    }
}

impl From<KeepRule> for String {
    fn from(rule: KeepRule) -> String {
        rule.to_string()
    }
}

/// Judges the ended runs of a file one after another, the newest first.
#[derive(Debug)]
pub struct RetentionJudge {
    rules: Vec<KeepRule>,
    /// How many runs each rule has kept.
    kept: Vec<u64>,
}

impl RetentionJudge {
    /// Whether the next run leaves. `created_at` is asked first, since no run ends before it was
    /// created; `ended_at` may cost something.
    ///
    /// # Errors
    /// That of `ended_at`.
    pub fn leaves<E>(
        &mut self,
        labels: &BTreeMap<String, String>,
        (now, created_at): (Timestamp, Timestamp),
        ended_at: impl FnOnce() -> Result<Timestamp, E>,
    ) -> Result<bool, E> {
        let fits = |rule: &KeepRule| {
            rule.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
        };
        let Some(at) = self.rules.iter().position(fits) else { return Ok(false) };
        let Keep { age, runs } = self.rules[at].keep;
        let too_many = runs.is_some_and(|runs| self.kept[at] >= runs);
        let least = match too_many {
            true => Some(KEPT_AT_LEAST),
            false => age.map(|age| age.max(KEPT_AT_LEAST)),
        };
        let leaves = match least {
            Some(least) if is_older(created_at, least, now) => is_older(ended_at()?, least, now),
            Some(_) | None => false,
        };
        self.kept[at] += u64::from(!leaves);
        Ok(leaves)
    }
}

fn is_older(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    now.since(at) > age
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Retention {
        Retention::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn labels(text: &str) -> BTreeMap<String, String> {
        labels_of(text).unwrap_or_default()
    }

    #[test]
    fn a_rule_reads_what_it_writes() {
        for text in ["always", "30d", "90m", "1000", "12h,5", "a=b:always", "a=b:c,d=e:7d,9", "1s"]
        {
            assert_eq!(text.parse::<KeepRule>().unwrap().to_string(), text);
        }
        assert_eq!("48h".parse::<KeepRule>().unwrap().to_string(), "2d");
        assert_eq!("0".parse::<KeepRule>().unwrap().keep, Keep { age: None, runs: Some(0) });
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_text_and_how_to_write_one() {
        for text in ["", "x", "30w", "-1d", "1d,2d", "1,2", "a:1d", "=b:1d", "a=:1d", "1d,"] {
            let message = text.parse::<KeepRule>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{text}`")) && message.contains("30d"), "{message}");
        }
        let message = "99999999999999999d".parse::<KeepRule>().unwrap_err().to_string();
        assert!(message.contains("30d"), "{message}");
        assert!("40000d".parse::<KeepRule>().unwrap_err().to_string().contains("always"));
    }

    #[test]
    fn a_rule_that_is_never_asked_is_refused() {
        let read = ["30d", "a=b:1d"].map(|text| text.parse().unwrap());
        let message = Retention::new(read.to_vec()).unwrap_err().to_string();
        assert!(message.contains("`a=b:1d` is never asked"), "{message}");
    }

    #[test]
    fn the_first_rule_whose_labels_fit_decides() {
        let retention = rules(&["audit=yes:always", "kind=batch:1d", "30d"]);
        let mut judge = retention.judge();
        let day = 86_400;
        let mut leaves = |of: &str, age: i64| {
            let ended = at(100 * day - age);
            judge.leaves(&labels(of), (at(100 * day), at(0)), || Ok::<_, ()>(ended)).unwrap()
        };
        assert!(!leaves("audit=yes,kind=batch", 99 * day));
        assert!(leaves("kind=batch", 2 * day));
        assert!(!leaves("", 2 * day));
        assert!(leaves("audit=no", 31 * day));
    }

    #[test]
    fn a_number_counts_the_newest_that_its_rule_kept() {
        let retention = rules(&["a=b:1", "2"]);
        let mut judge = retention.judge();
        let mut leaves = |of: &str| {
            judge.leaves(&labels(of), (at(1_000), at(0)), || Ok::<_, ()>(at(10))).unwrap()
        };
        let left = ["", "a=b", "", "a=b", "", ""].map(&mut leaves);
        assert_eq!(left, [false, false, false, true, true, true]);
    }

    #[test]
    fn a_run_stays_for_a_minute_and_one_that_no_rule_fits_for_ever() {
        let retention = rules(&["0"]);
        let ended = |ended: i64| {
            let times = (at(1_000), at(0));
            retention.judge().leaves(&labels(""), times, || Ok::<_, ()>(at(ended))).unwrap()
        };
        assert!(!ended(940) && ended(939));
        let retention = rules(&["a=b:0"]);
        let times = (at(1_000_000), at(0));
        let leaves = retention.judge().leaves(&labels(""), times, || Ok::<_, ()>(at(0)));
        assert_eq!(leaves, Ok(false));
    }

    #[test]
    fn the_end_of_a_run_that_is_too_young_anyway_is_not_read() {
        let retention = rules(&["1d"]);
        let mut judge = retention.judge();
        let leaves = judge.leaves(&labels(""), (at(1_000), at(990)), || Err("it was read"));
        assert_eq!(leaves, Ok(false));
    }
}
