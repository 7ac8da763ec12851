//! A strict reader of Prometheus's text format 0.0.4: what it takes, Prometheus takes.

use std::collections::{BTreeMap, BTreeSet};

use super::http::Api;

/// A page of metrics that was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// The type of each metric.
    pub(crate) types: BTreeMap<String, String>,
    /// The value of each series: `name{a="b"}`, with its labels in order.
    pub(crate) series: BTreeMap<String, f64>,
}

/// Scrapes a node.
#[track_caller]
pub(crate) fn scrape(api: &Api) -> Metrics {
    let reply = api.get("/metrics").expect("the node answers a scrape");
    assert_eq!(reply.status, 200, "{reply:?}");
    Metrics::read(reply.body.as_str().expect("a page is text"))
}

impl Metrics {
    /// Reads a page.
    #[track_caller]
    pub(crate) fn read(page: &str) -> Metrics {
        assert!(page.ends_with('\n'), "the last line has an end");
        let (mut metrics, mut done) = (Metrics::default(), BTreeSet::new());
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(!text.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert!(metrics.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                // The lines of a metric stand together.
                assert!(done.insert(name.to_owned()), "{line}");
                name.clone_into(&mut family);
            } else {
                metrics.sample(line, &family);
            }
        }
        assert_eq!(helped, metrics.types.keys().cloned().collect(), "each has both heads");
        metrics.check_histograms();
        metrics
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let kind = self.types.get(family).map(String::as_str);
        let base = match kind {
            Some("histogram") => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name),
            _ => name,
        };
        assert_eq!(base, family, "a line stands under its own head: {line}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        let mut names = BTreeSet::new();
        for label in labels_of(labels) {
            assert!(names.insert(label.clone()), "a label twice: {line}");
        }
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(self.series.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }

    fn check_histograms(&self) {
        for name in self.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name)
        {
            let prefix = format!("{name}_bucket{{");
            let bucket = |series: &str| {
                let (_, bound) = series.split_once("le=\"")?;
                bound.split('"').next()?.replace("+Inf", "inf").parse::<f64>().ok()
            };
            let mut buckets: Vec<(f64, f64)> = self
                .series
                .iter()
                .filter(|(series, _)| series.starts_with(&prefix))
                .map(|(series, count)| (bucket(series).expect("a bound"), *count))
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
            let last = buckets.last().expect("buckets");
            assert!(last.0.is_infinite(), "{name} ends with +Inf");
            assert_eq!(Some(last.1), self.maybe(&format!("{name}_count")), "{name}");
        }
    }

    /// The sum over a metric's series that have all of these labels; `None` if there is none.
    pub(crate) fn with(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = self.series.iter().filter(|(series, _)| {
            let base = series.split('{').next().unwrap_or_default();
            base == name && labels.iter().all(|(k, v)| series.contains(&format!("{k}=\"{v}\"")))
        });
        found.map(|(_, value)| *value).reduce(|a, b| a + b)
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<f64> {
        self.with(name, &[])
    }

    /// A metric that has to be there.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.maybe(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.series.keys()))
    }
}

/// The names of `a="b",c="d"`, where values may have escaped quotes.
fn labels_of(mut text: &str) -> Vec<String> {
    let mut names = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("labels {text}"));
        names.push(name.trim_start_matches(',').to_owned());
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        text = &rest[end.unwrap_or_else(|| panic!("labels {rest}")) + 1..];
    }
    names
}
