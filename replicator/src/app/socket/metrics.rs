//! The sidecar's status in Prometheus's text format.

use std::fmt::Write as _;

use tidemill_model::{SidecarState, SidecarStatus};

const STATES: [SidecarState; 7] = [
    SidecarState::Starting,
    SidecarState::Ready,
    SidecarState::Curing,
    SidecarState::Draining,
    SidecarState::Stalled,
    SidecarState::Fenced,
    SidecarState::Released,
];

/// Renders the text format 0.0.4. Unknown figures are absent. Nothing needs escaping, because no
/// node name has a character that would.
pub(super) fn render(status: &SidecarStatus) -> String {
    let mut text = Text { out: String::new(), node: status.node.as_str() };
    text.head("state", "gauge", "1 for what the sidecar is doing, 0 for the rest.");
    for state in STATES {
        let is = u64::from(state == status.state);
        text.line("state", &format!(",state=\"{}\"", state.as_str()), is);
    }
    if let Some(version) = &status.litestream_version {
        text.head("litestream_info", "gauge", "The version of Litestream.");
        let version: String = version.chars().filter(|c| !"\"\\\n".contains(*c)).collect();
        text.line("litestream_info", &format!(",version=\"{version}\""), 1);
    }
    let epoch = status.epoch.map(tidemill_model::Epoch::get);
    text.one("epoch", "gauge", "The epoch that the sidecar writes in.", epoch);
    text.one(
        "litestream_up",
        "gauge",
        "Whether Litestream runs.",
        Some(u64::from(status.litestream_pid.is_some())),
    );
    text.one(
        "litestream_restarts_total",
        "counter",
        "How often Litestream was started again because it ended by itself.",
        Some(status.litestream_restarts),
    );
    let attached = u64::from(status.app_pid.is_some());
    text.one("app_attached", "gauge", "Whether an app is attached.", Some(attached));
    let txid = status.shipped_txid.map(tidemill_model::Txid::get);
    text.one("shipped_txid", "gauge", "The last transaction in the bucket.", txid);
    let shipped_at = status.shipped_at.map(|at| seconds(at.as_micros().unsigned_abs(), 1_000_000));
    text.one("shipped_timestamp_seconds", "gauge", "When it was shipped.", shipped_at);
    let lag = Some(seconds(status.lag_ms, 1_000));
    text.one("lag_seconds", "gauge", "For how long something has waited to be shipped.", lag);
    let lag_bytes = Some(status.lag_bytes);
    text.one("lag_bytes", "gauge", "How much of the WAL waits to be shipped.", lag_bytes);
    text.one("wal_bytes", "gauge", "The size of the WAL file.", Some(status.wal_bytes));
    let barrier = status.barrier_ms.map(|ms| seconds(ms, 1_000));
    text.one("barrier_seconds", "gauge", "How long the last barrier took.", barrier);
    let age = status.lease_age_ms.map(|ms| seconds(ms, 1_000));
    text.one("lease_age_seconds", "gauge", "How long ago the lease was last written.", age);
    text.out
}

/// A count of parts of a second as exact decimal seconds.
fn seconds(parts: u64, per_second: u64) -> String {
    let digits = per_second.ilog10().try_into().unwrap_or(0);
    format!("{}.{:0digits$}", parts / per_second, parts % per_second)
}

struct Text<'a> {
    out: String,
    node: &'a str,
}

impl Text<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let head = format!("# HELP tidemill_{name} {help}\n# TYPE tidemill_{name} {kind}\n");
        self.out.push_str(&head);
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let node = self.node;
        writeln!(self.out, "tidemill_{name}{{node=\"{node}\"{labels}}} {value}")
            .expect("writing to a string cannot fail");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.head(name, kind, help);
            self.line(name, "", value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::{NodeId, Txid};

    #[test]
    fn figures_that_are_known_are_listed_with_their_node() {
        let status = SidecarStatus {
            node: NodeId::new("n1").unwrap(),
            state: SidecarState::Ready,
            epoch: Some(tidemill_model::Epoch::new(3).unwrap()),
            pid: 10,
            litestream_pid: Some(11),
            litestream_version: Some("v0.5.18".to_owned()),
            litestream_restarts: 2,
            app_pid: None,
            shipped_txid: Some(Txid::new(42).unwrap()),
            shipped_at: Some("2026-11-20T10:00:00.25Z".parse().unwrap()),
            lag_ms: 45,
            lag_bytes: 8_240,
            wal_bytes: 4_152_992,
            barrier_ms: None,
            lease_age_ms: Some(1_200),
            problem: None,
        };
        let text = render(&status);
        let figures: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).collect();
        let expected = expect_test::expect![[r#"
            tidemill_state{node="n1",state="ready"} 1
            tidemill_litestream_info{node="n1",version="v0.5.18"} 1
            tidemill_epoch{node="n1"} 3
            tidemill_litestream_up{node="n1"} 1
            tidemill_litestream_restarts_total{node="n1"} 2
            tidemill_shipped_txid{node="n1"} 42
            tidemill_shipped_timestamp_seconds{node="n1"} 1795168800.250000
            tidemill_lag_seconds{node="n1"} 0.045
            tidemill_lag_bytes{node="n1"} 8240
            tidemill_wal_bytes{node="n1"} 4152992
            tidemill_lease_age_seconds{node="n1"} 1.200"#]];
        expected.assert_eq(&figures.join("\n"));
    }
}
