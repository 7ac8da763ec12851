use std::collections::BTreeSet;

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");
const ALERTS: &str = include_str!("../../../../deploy/alerts.yaml");

/// All that any process exports.
fn every() -> impl Iterator<Item = &'static Metric> {
    NODE.iter().chain(SIDECAR).chain(OBSERVER)
}

/// The rows of the document's tables as `name | type | labels`.
fn documented() -> BTreeSet<String> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `tidemill_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        format!("tidemill_{} | {} | {}", cells[0].trim_end_matches('`'), cells[1], cells[2])
    })
    .collect()
}

#[test]
fn the_document_lists_what_is_exported_and_nothing_else() {
    let listed = |metric: &Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("{} | {} | {}", metric.name, metric.kind.as_str(), labels.join(", "))
    };
    let exported: BTreeSet<String> = every().map(listed).collect();
    assert_eq!(documented(), exported);
    assert_eq!(exported.len(), every().count(), "no name twice");
}

#[test]
fn names_follow_the_conventions() {
    for metric in every() {
        let Metric { name, kind, help, .. } = metric;
        assert_eq!(*kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
        assert!(!name.ends_with("_ms") && !name.ends_with("_count"), "{name}");
        assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}: {help}");
    }
    assert!(SIDECAR.iter().all(|metric| metric.name.starts_with("tidemill_sidecar_")));
    assert!(OBSERVER.iter().all(|metric| metric.name.starts_with("tidemill_observer_")));
    let own = NODE.iter().filter(|metric| metric.name.starts_with("tidemill_sidecar_"));
    assert_eq!(own.map(|metric| metric.name).collect::<Vec<_>>(), ["tidemill_sidecar_up"]);
}

/// The metrics that an expression names, without the suffixes of a histogram.
fn named(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("tidemill_"));
    let histograms = every().filter(|m| m.kind == MetricKind::Histogram);
    let histograms: Vec<&str> = histograms.map(|metric| metric.name).collect();
    ours.map(|word| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        base.filter(|base| histograms.contains(base)).unwrap_or(word).to_owned()
    })
    .collect()
}

#[test]
fn the_alerts_name_metrics_that_exist_and_say_what_to_do() {
    let rules: serde_norway::Value = serde_norway::from_str(ALERTS).unwrap();
    let groups = rules["groups"].as_sequence().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap());
    let known: BTreeSet<&str> = every().map(|metric| metric.name).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(alert.to_owned()), "{alert} twice");
        let metrics = named(rule["expr"].as_str().unwrap());
        assert!(!metrics.is_empty(), "{alert}");
        for metric in metrics {
            assert!(known.contains(metric.as_str()), "{alert}: there is no {metric}");
        }
        assert!(matches!(rule["labels"]["severity"].as_str().unwrap(), "page" | "ticket"));
        for text in ["summary", "action"] {
            let text = rule["annotations"][text].as_str().unwrap();
            assert!(!text.contains('\n') && text.ends_with('.'), "{alert}: {text}");
        }
    }
    assert!(alerts.len() >= 10, "{alerts:?}");
}
