//! The fleets of an observer: every node by its lease, and what needs a human.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tidemill_model::{Epoch, RunCounts, Timestamp};

use crate::needs::Needs;
use crate::site::Viewer;
use crate::{shell, words};

/// Nodes that are listed of a fleet, those that need a look first; the JSON has all.
const NODES_MAX: usize = 100;

/// What an observer shows first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetsPage {
    /// What needs a human, of all fleets.
    pub needs: Needs,
    /// The fleets.
    pub fleets: Vec<FleetView>,
    /// Nodes that are asked directly and belong to none of them.
    pub nodes: Vec<NodeRow>,
    /// How often leases are read, in seconds: what is shown is that old at most.
    pub read_every_s: u64,
    /// When this was put together.
    pub now: Timestamp,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetView {
    /// Its name, `s3://BUCKET/FLEET`.
    pub fleet: String,
    /// When its leases were read; `None` before the first time.
    pub read_at: Option<Timestamp>,
    /// Why they could not be read since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeRow>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its page: the timeline, or the node itself if only it can be asked.
    pub address: String,
    /// Its newest moment, or the node itself.
    pub runs_address: String,
    /// What the sidecar said it was doing, `expired`, `unclaimed`, or `unreadable`.
    pub state: String,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The epoch.
    pub epoch: Option<Epoch>,
    /// The machine.
    pub host: Option<String>,
    /// When the lease was last written.
    pub heartbeat_at: Option<Timestamp>,
    /// How much was not yet shipped then.
    pub wal_lag_bytes: Option<u64>,
    /// How many runs it has of each status, as it said last; `None` if it never did.
    pub runs: Option<RunCounts>,
    /// The node itself, if it answers now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
}

/// The nodes that are listed: those that are not ready first, each group by name.
fn first(nodes: &[NodeRow]) -> Vec<&NodeRow> {
    let mut first: Vec<&NodeRow> = nodes.iter().collect();
    first.sort_by_key(|node| (node.state == "ready", node.node.as_str()));
    first.truncate(NODES_MAX);
    first
}

impl FleetsPage {
    /// The whole page.
    pub fn html(&self, viewer: &Viewer) -> Markup {
        let content = html! {
            h1 { "Nodes" }
            (self.needs.html(self.now, ""))
            @for fleet in &self.fleets {
                h2 { (fleet.fleet) " " small { (words::count(u64::try_from(fleet.nodes.len()).unwrap_or(0), "node"))
                    @match fleet.read_at { Some(at) => { ", as of " (words::ago(at, self.now)) } None => { ", not read yet" } } } }
                @if let Some(problem) = &fleet.problem { p.error role="alert" { (problem) } }
                (self.table(&fleet.nodes))
            }
            @if !self.nodes.is_empty() {
                h2 { "Nodes that are asked directly" }
                (self.table(&self.nodes))
            }
            p.soft { "Leases are read every " (self.read_every_s) " s, so a node that stops is seen that much later." }
        };
        shell::plain("Nodes", viewer, &content)
    }

    fn table(&self, nodes: &[NodeRow]) -> Markup {
        html! {
            @if nodes.is_empty() { p.card { "No node is there yet." } } @else {
                div.scroll { table.stack {
                    thead { tr { th { "node" } th { "state" } th { "runs" } th { "heartbeat" } th.n { "not shipped" } th.n { "epoch" } th { "machine" } th { "" } } }
                    tbody { @for node in first(nodes) { (self.row(node)) } }
                } }
                @if nodes.len() > NODES_MAX {
                    p.soft { "These are " (NODES_MAX) " of " (words::thousands(u64::try_from(nodes.len()).unwrap_or(0))) ", those that are not ready first: " code { "/s3/BUCKET/FLEET/NODE" } " shows any by its name." }
                }
            }
        }
    }

    fn row(&self, node: &NodeRow) -> Markup {
        html! {
            tr data-row {
                td.id { a data-open href=(node.address) { (node.node) } }
                td { span class={ "status " (node.state) } { (node.state) } @if let Some(problem) = &node.problem { " " span.error { (problem) } } }
                td { @match &node.runs {
                    Some(runs) => {
                        @for (status, n) in runs.iter().filter(|(_, n)| **n > 0) {
                            span class={ "status " (status.as_str()) } { (status.as_str()) " " (words::thousands(*n)) } " "
                        }
                    }
                    None => {}
                } }
                td.t data-name="heartbeat" { @if let Some(at) = node.heartbeat_at { (words::ago(at, self.now)) } }
                td.n data-name="not shipped" { @if let Some(bytes) = node.wal_lag_bytes { (words::bytes(bytes)) } }
                td.n data-name="epoch" { @if let Some(epoch) = node.epoch { (epoch) } }
                td.optional { @if let Some(host) = &node.host { (host) } }
                td { a href=(node.runs_address) { "runs" } @if let Some(live) = &node.live { " · " a href=(live) { "live" } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::Need;
    use crate::testing::{HOSTILE, assert_harmless, at, elements};

    #[test]
    fn a_fleet_of_500_nodes_shows_those_that_need_a_look_first() {
        let node = |n: usize| NodeRow {
            node: format!("n{n}"),
            address: format!("/s3/b/f/n{n}"),
            runs_address: format!("/s3/b/f/n{n}@latest/runs"),
            state: if n == 499 { "expired" } else { "ready" }.into(),
            problem: None,
            epoch: None,
            host: Some(HOSTILE.into()),
            heartbeat_at: Some(at(1)),
            wal_lag_bytes: Some(0),
            runs: None,
            live: None,
        };
        let need = |n: u64| Need {
            since: Some(at(i64::try_from(n).unwrap())),
            kind: "blocked".into(),
            node: format!("n{n}"),
            what: HOSTILE.into(),
            cause: HOSTILE.into(),
            address: "/".into(),
        };
        let page = FleetsPage {
            needs: Needs::of((0..500).map(need).collect()),
            fleets: vec![FleetView {
                fleet: "s3://b/f".into(),
                read_at: Some(at(1)),
                problem: Some(HOSTILE.into()),
                nodes: (0..500).map(node).collect(),
            }],
            nodes: Vec::new(),
            read_every_s: 30,
            now: at(2),
        };
        let html = page.html(&Viewer::default()).into_string();
        let (_, main) = html.split_once("<main").unwrap();
        assert_harmless(main);
        assert!(html.len() < 256 * 1024, "{} bytes", html.len());
        assert!(elements(&html) < 3_000, "{} elements", elements(&html));
        let first = html.find(">n499<").unwrap();
        assert!(html.find(">n0<").is_some_and(|at| at > first), "the one that expired is first");
    }
}
