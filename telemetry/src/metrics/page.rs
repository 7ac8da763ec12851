//! Prometheus's text format 0.0.4.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use tidemill_model::NodeId;

use super::counter::{Histogram, Unit};
use super::names::{Metric, MetricKind};

/// What a page is served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics, each with the label `node` if the node has a name.
#[derive(Debug)]
pub struct Page {
    text: String,
    node: Option<String>,
}

impl Page {
    /// An empty page.
    pub fn new(node: Option<&NodeId>) -> Page {
        Page { text: String::new(), node: node.map(ToString::to_string) }
    }

    /// Adds a metric that has one value.
    ///
    /// # Panics
    /// If the metric has labels or is a histogram: that is a mistake in our code.
    pub fn one(&mut self, metric: &Metric, value: impl Display) {
        self.all(metric, [(&[][..], value)]);
    }

    /// Adds a metric that has one value, if it is known.
    ///
    /// # Panics
    /// As [`Page::one`].
    pub fn maybe(&mut self, metric: &Metric, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(metric, value);
        }
    }

    /// Adds a metric with a value for each value of its label.
    ///
    /// # Panics
    /// As [`Page::all`].
    pub fn by<V: Display>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        self.head(metric);
        for (of, value) in values {
            self.line(metric, &[of], value);
        }
    }

    /// Adds a metric with values for its labels, in their order.
    ///
    /// # Panics
    /// If the number of values is not that of the metric's labels, or it is a histogram: that is a
    /// mistake in our code.
    pub fn all<'a, V: Display>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (&'a [&'a str], V)>,
    ) {
        self.head(metric);
        for (of, value) in values {
            self.line(metric, of, value);
        }
    }

    /// Adds a histogram.
    pub fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        self.head(metric);
        let shown = |value: u64| match histogram.unit() {
            Unit::Number => value.to_string(),
            Unit::Seconds => Seconds(Duration::from_nanos(value)).to_string(),
        };
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), shown);
            self.sample(metric.name, "_bucket", [("le", bound.as_str())], count);
            all = count;
        }
        self.sample(metric.name, "_sum", [], shown(histogram.sum()));
        self.sample(metric.name, "_count", [], all);
    }

    /// Adds text that [`relayed`] has passed.
    pub fn append(&mut self, relayed: &str) {
        self.text.push_str(relayed);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
    }

    fn line(&mut self, metric: &Metric, of: &[&str], value: impl Display) {
        assert_eq!(metric.labels.len(), of.len(), "{} has other labels", metric.name);
        assert_ne!(metric.kind, MetricKind::Histogram, "{} has buckets", metric.name);
        let labels = metric.labels.iter().copied().zip(of.iter().copied());
        self.sample(metric.name, "", labels, value);
    }

    fn sample<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) {
        let label = |(name, value): (&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let node = self.node.iter().map(|node| label(("node", node)));
        let labels: Vec<String> = node.chain(labels.into_iter().map(label)).collect();
        match labels.is_empty() {
            true => self.write(format_args!("{name}{suffix} {value}\n")),
            false => self.write(format_args!("{name}{suffix}{{{}}} {value}\n", labels.join(","))),
        }
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string cannot fail");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// A duration as exact decimal seconds, without zeros at the end.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What a node shows of its sidecar's page: the lines of metrics that begin with this prefix and
/// are lines of the format, each metric once. The rest is left out, so that no sidecar of another
/// version makes the node's page one that Prometheus refuses.
pub fn relayed(page: &str, prefix: &str) -> String {
    let (mut text, mut heads) = (String::new(), BTreeSet::new());
    for line in page.lines() {
        let passes = match line.strip_prefix("# ") {
            Some(head) => {
                let mut words = head.splitn(3, ' ');
                let (what, name) = (words.next(), words.next().unwrap_or_default());
                name.starts_with(prefix)
                    && matches!(what, Some("HELP" | "TYPE"))
                    && heads.insert((what, name))
            }
            None => line.starts_with(prefix) && is_sample(line),
        };
        if passes {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Whether a line is a name, perhaps labels, and a number.
fn is_sample(line: &str) -> bool {
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let name_end = series.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let labels = name_end.map_or("", |at| &series[at..]);
    let labelled = labels.starts_with('{') && labels.ends_with("\"}");
    (labels.is_empty() || labelled) && value.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::names;
    use super::*;

    #[test]
    fn a_page_names_its_node_and_escapes_what_others_wrote() {
        let node = NodeId::new("n1").unwrap();
        let mut page = Page::new(Some(&node));
        page.one(&names::GATE_OPEN, 1);
        page.maybe(&names::EPOCH, None::<u64>);
        page.by(&names::STEPS, [("completed", 2), ("failed", 0)]);
        page.all(&names::BUILD_INFO, [(&["a\"b\\c\nd", "1", "0.2.0"][..], 1)]);
        let sizes = Histogram::of_uploads();
        sizes.took(Duration::from_millis(40));
        sizes.took(Duration::from_secs(61));
        page.histogram(&names::SIDECAR_BARRIER_SECONDS, &sizes);
        let text = page.finish();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        expect![[r#"
            # TYPE tidemill_gate_open gauge
            tidemill_gate_open{node="n1"} 1
            # TYPE tidemill_steps_total counter
            tidemill_steps_total{node="n1",outcome="completed"} 2
            tidemill_steps_total{node="n1",outcome="failed"} 0
            # TYPE tidemill_build_info gauge
            tidemill_build_info{node="n1",app="a\"b\\c\nd",app_version="1",version="0.2.0"} 1
            # TYPE tidemill_sidecar_barrier_duration_seconds histogram
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.01"} 0
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.025"} 0
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.05"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.1"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.25"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="0.5"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="1"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="2.5"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="5"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="10"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="30"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="60"} 1
            tidemill_sidecar_barrier_duration_seconds_bucket{node="n1",le="+Inf"} 2
            tidemill_sidecar_barrier_duration_seconds_sum{node="n1"} 61.04
            tidemill_sidecar_barrier_duration_seconds_count{node="n1"} 2"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_node_without_a_name_has_no_label() {
        let mut page = Page::new(None);
        page.one(&names::GATE_OPEN, 1);
        page.by(&names::STEPS, [("failed", 0)]);
        let text = page.finish();
        assert!(text.contains("\ntidemill_gate_open 1\n"), "{text}");
        assert!(text.contains("\ntidemill_steps_total{outcome=\"failed\"} 0\n"), "{text}");
    }

    #[test]
    fn what_is_no_metric_of_the_sidecar_is_not_shown() {
        let page = "# HELP tidemill_sidecar_x of\n# TYPE tidemill_sidecar_x gauge\n\
            tidemill_sidecar_x{node=\"n1\"} 1.5\ntidemill_sidecar_x{node=\"n2\"} +Inf\n\
            # TYPE tidemill_sidecar_x gauge\ntidemill_sidecar_x{ 1\ntidemill_sidecar_y\n\
            tidemill_gate_open 0\nnonsense\n# EOF\n# TYPE tidemill_runs gauge\n\
            tidemill_sidecar_x once\n";
        expect![[r#"
            # HELP tidemill_sidecar_x of
            # TYPE tidemill_sidecar_x gauge
            tidemill_sidecar_x{node="n1"} 1.5
            tidemill_sidecar_x{node="n2"} +Inf
        "#]]
        .assert_eq(&relayed(page, "tidemill_sidecar_"));
    }
}
