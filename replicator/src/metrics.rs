//! The sidecar's metrics, in Prometheus's text format.

use std::time::Duration;

use tidemill_model::{SidecarState, SidecarStatus, unix_ms};
use tidemill_telemetry::metrics::{Page, Seconds, names};

use crate::figures::Figures;
use crate::problems::{Problems, Topic};

const STATES: [SidecarState; 7] = [
    SidecarState::Starting,
    SidecarState::Ready,
    SidecarState::Curing,
    SidecarState::Draining,
    SidecarState::Stalled,
    SidecarState::Fenced,
    SidecarState::Released,
];

/// What a page shows beside the status.
pub(crate) struct Shown<'a> {
    pub(crate) status: &'a SidecarStatus,
    pub(crate) problems: &'a Problems,
    pub(crate) figures: &'a Figures,
    pub(crate) ttl: Duration,
    /// How long the gate stays open without another renewal; `None` before the node is ready.
    pub(crate) lease_left: Option<Duration>,
}

/// Renders a page. Figures that are not known are absent.
pub(crate) fn render(shown: &Shown<'_>) -> String {
    let Shown { status, problems, figures, ttl, lease_left } = shown;
    let ms = |ms: u64| Seconds(Duration::from_millis(ms));
    let mut page = Page::new(Some(&status.node));
    let is = |state: SidecarState| (state.as_str(), u8::from(state == status.state));
    page.by(&names::SIDECAR_STATE, STATES.map(is));
    let has = |topic: Topic| (topic.as_str(), u8::from(problems.of(topic).is_some()));
    page.by(&names::SIDECAR_PROBLEM, Topic::ALL.map(has));
    page.maybe(&names::SIDECAR_EPOCH, status.epoch);
    page.maybe(&names::SIDECAR_LEASE_LEFT, lease_left.map(Seconds));
    page.maybe(&names::SIDECAR_LEASE_AGE, status.lease_age_ms.map(ms));
    page.one(&names::SIDECAR_LEASE_TTL, ms(unix_ms(*ttl)));
    let renewals = [("renewed", &figures.renewals), ("failed", &figures.renewals_failed)];
    page.by(&names::SIDECAR_RENEWALS, renewals.map(|(outcome, count)| (outcome, count.get())));
    let counted = figures.barriers.cumulative().last().map_or(0, |(_, all)| *all);
    let failed = figures.barriers_failed.get();
    page.by(&names::SIDECAR_BARRIERS, [("counted", counted), ("failed", failed)]);
    page.histogram(&names::SIDECAR_BARRIER_SECONDS, &figures.barriers);
    page.one(&names::SIDECAR_LAG_SECONDS, ms(status.lag_ms));
    page.one(&names::SIDECAR_LAG_BYTES, status.lag_bytes);
    page.one(&names::SIDECAR_WAL_BYTES, status.wal_bytes);
    page.maybe(&names::SIDECAR_SHIPPED_TXID, status.shipped_txid.map(tidemill_model::Txid::get));
    let shipped_at = status.shipped_at.map(|at| at.as_micros().unsigned_abs());
    page.maybe(
        &names::SIDECAR_SHIPPED_AT,
        shipped_at.map(|micros| Seconds(Duration::from_micros(micros))),
    );
    page.one(&names::SIDECAR_LITESTREAM_UP, u8::from(status.litestream_pid.is_some()));
    if let Some(version) = &status.litestream_version {
        page.all(&names::SIDECAR_LITESTREAM_INFO, [(&[version.as_str()][..], 1)]);
    }
    page.one(&names::SIDECAR_LITESTREAM_RESTARTS, status.litestream_restarts);
    let breaks = [("open", &figures.breaks_opened), ("closed", &figures.breaks_closed)];
    page.by(&names::SIDECAR_BREAKS, breaks.map(|(kind, count)| (kind, count.get())));
    page.one(&names::SIDECAR_APP_ATTACHED, u8::from(status.app_pid.is_some()));
    page.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use tidemill_model::{NodeId, Txid};

    #[test]
    fn every_figure_is_listed_with_its_node_and_those_that_are_known_have_values() {
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
        let (mut problems, figures) = (Problems::default(), Figures::default());
        problems.say(Topic::Upload, "S3 is away");
        figures.barriers.took(Duration::from_millis(20));
        figures.renewals.add(7);
        figures.breaks_opened.add_one();
        let shown = Shown {
            status: &status,
            problems: &problems,
            figures: &figures,
            ttl: Duration::from_secs(15),
            lease_left: Some(Duration::from_millis(12_300)),
        };
        let text = render(&shown);
        let values: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"))
            .filter(|line| !line.contains("_bucket"))
            .collect();
        let expected = expect_test::expect![[r#"
            tidemill_sidecar_state{node="n1",state="ready"} 1
            tidemill_sidecar_problem{node="n1",topic="upload"} 1
            tidemill_sidecar_epoch{node="n1"} 3
            tidemill_sidecar_lease_left_seconds{node="n1"} 12.3
            tidemill_sidecar_lease_age_seconds{node="n1"} 1.2
            tidemill_sidecar_lease_ttl_seconds{node="n1"} 15
            tidemill_sidecar_lease_renewals_total{node="n1",outcome="renewed"} 7
            tidemill_sidecar_barriers_total{node="n1",outcome="counted"} 1
            tidemill_sidecar_barrier_duration_seconds_sum{node="n1"} 0.02
            tidemill_sidecar_barrier_duration_seconds_count{node="n1"} 1
            tidemill_sidecar_lag_seconds{node="n1"} 0.045
            tidemill_sidecar_lag_bytes{node="n1"} 8240
            tidemill_sidecar_wal_size_bytes{node="n1"} 4152992
            tidemill_sidecar_shipped_txid{node="n1"} 42
            tidemill_sidecar_shipped_timestamp_seconds{node="n1"} 1795168800.25
            tidemill_sidecar_litestream_up{node="n1"} 1
            tidemill_sidecar_litestream_info{node="n1",version="v0.5.18"} 1
            tidemill_sidecar_litestream_restarts_total{node="n1"} 2
            tidemill_sidecar_breaks_total{node="n1",kind="open"} 1"#]];
        expected.assert_eq(&values.join("\n"));
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let all: BTreeSet<&str> = names::SIDECAR.iter().map(|metric| metric.name).collect();
        assert_eq!(typed.collect::<BTreeSet<_>>(), all);
    }
}
