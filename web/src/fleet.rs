//! The watch over fleets: their leases, read every so often, whatever is asked for.
//!
//! An idle node costs one request each time, and a listing of its breaks every fourth time, as the
//! fleet does: at the default of 30 s that is 180 requests an hour for a fleet of one node.
//!
//! On failure: what was read last stays, with when, and with what went wrong since.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidemill_bucket::{NodeUrl, Store, list_nodes};
use tidemill_eventlog::host::wall_now;
use tidemill_model::{Epoch, Error, FleetUrl, NodeId, Timestamp};
use tidemill_observer::{Access, NodeView, OpenBreaks, open_breaks, read_nodes};
use tidemill_page::fleet::{FleetView, FleetsPage, NodeRow};
use tidemill_page::needs::Needs;
use tidemill_telemetry::metrics::Counter;
use tokio::sync::watch;

use crate::address::{live_path, node_path};
use crate::live::{LiveNodes, Said};
use crate::needs::{needs_of, needs_of_breaks, needs_of_figures, needs_of_live};

/// The names of nodes and their breaks are listed at every fourth look only, so a new node or break
/// is seen that much later.
const LIST_EVERY: u32 = 4;

/// The watch over all fleets.
#[derive(Debug)]
pub(crate) struct Watch {
    access: Access,
    pub(crate) fleets: Vec<FleetUrl>,
    pub(crate) every: Duration,
    known: RwLock<BTreeMap<String, FleetRead>>,
    reads: BTreeMap<String, Reads>,
    /// Tells that a fleet was looked at.
    looked: watch::Sender<()>,
}

/// What is known of a fleet.
#[derive(Debug, Clone, Default)]
struct FleetRead {
    read_at: Option<Timestamp>,
    nodes: Vec<NodeView>,
    /// The breaks of each node's epoch that have no end yet.
    breaks: OpenBreaks,
    problem: Option<String>,
}

/// How often a fleet was read, and how often it could not be.
#[derive(Debug, Default)]
struct Reads {
    read: Counter,
    failed: Counter,
}

/// What is counted of a fleet.
#[derive(Debug)]
pub(crate) struct FleetFigures {
    /// Its name, `s3://BUCKET/FLEET`.
    pub(crate) name: String,
    /// How often it was read.
    pub(crate) read: u64,
    /// How often it could not be.
    pub(crate) failed: u64,
    /// When it was read last; `None` before the first time.
    pub(crate) read_at: Option<Timestamp>,
    /// How many of its nodes have each state, by the last read; empty before the first.
    pub(crate) nodes: BTreeMap<String, u64>,
}

impl Watch {
    pub(crate) fn new(access: Access, fleets: Vec<FleetUrl>, every: Duration) -> Watch {
        let reads = fleets.iter().map(|fleet| (fleet.to_string(), Reads::default())).collect();
        let (known, looked) = (RwLock::default(), watch::Sender::new(()));
        Watch { access, fleets, every, known, reads, looked }
    }

    /// Watches one fleet, for ever.
    pub(crate) async fn fleet(self: Arc<Self>, fleet: FleetUrl) {
        let mut connected: Option<(Store, Vec<NodeId>)> = None;
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for count in 0_u32.. {
            ticks.tick().await;
            let lists = connected.is_none() || count.is_multiple_of(LIST_EVERY);
            let read = self.read(&fleet, &mut connected, lists).await;
            let views = read.as_ref().ok().cloned();
            self.note(&fleet, read);
            self.looked.send_replace(());
            // After the leases are shown: a large fleet has many listings.
            if let (true, Some(views), Some((store, _))) = (lists, views, &connected) {
                let breaks = open_breaks(store, &fleet, &views).await;
                self.note_breaks(&fleet, breaks);
            }
        }
    }

    fn note(&self, fleet: &FleetUrl, read: Result<Vec<NodeView>, Error>) {
        if let Some(reads) = self.reads.get(&fleet.to_string()) {
            let count = if read.is_ok() { &reads.read } else { &reads.failed };
            count.add_one();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(fleet.to_string()).or_default();
        match read {
            Ok(nodes) => {
                let breaks = std::mem::take(&mut known.breaks);
                let read_at = Some(wall_now());
                *known = FleetRead { read_at, nodes, breaks, problem: None };
            }
            Err(error) => {
                if known.problem.is_none() {
                    tracing::warn!(%error, %fleet, "the leases of a fleet cannot be read");
                }
                known.problem = Some(error.to_string());
            }
        }
    }

    fn note_breaks(&self, fleet: &FleetUrl, read: Result<OpenBreaks, Error>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(fleet.to_string()).or_default();
        match read {
            Ok(breaks) => known.breaks = breaks,
            Err(error) => {
                tracing::warn!(%error, %fleet, "the breaks of a fleet cannot be read");
                known.problem = Some(error.to_string());
            }
        }
    }

    async fn read(
        &self,
        fleet: &FleetUrl,
        connected: &mut Option<(Store, Vec<NodeId>)>,
        lists: bool,
    ) -> Result<Vec<NodeView>, Error> {
        let store = match &connected {
            Some((store, _)) => store.clone(),
            None => Store::connect(fleet.bucket(), &self.access.s3).await?,
        };
        let names = match connected.take().filter(|_| !lists) {
            Some((_, names)) => names,
            None => list_nodes(&store, fleet).await?,
        };
        *connected = Some((store.clone(), names.clone()));
        read_nodes(&store, fleet, names, wall_now()).await
    }

    /// What a lease of a node said last.
    pub(crate) fn node(&self, node: &NodeUrl) -> Option<NodeView> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let fleet = known.get(&node.fleet.to_string())?;
        fleet.nodes.iter().find(|view| view.node == node.node).cloned()
    }

    /// The epochs that the leases of this name have now, in every fleet that has such a node.
    ///
    /// # Errors
    /// `Unavailable` if the bucket does not answer.
    pub(crate) async fn epochs_now(&self, node: &NodeId) -> Result<Vec<Epoch>, Error> {
        let mut epochs = Vec::new();
        for fleet in &self.fleets {
            let store = Store::connect(fleet.bucket(), &self.access.s3).await?;
            let views = read_nodes(&store, fleet, vec![node.clone()], wall_now()).await?;
            epochs.extend(views.into_iter().filter_map(|view| view.epoch));
        }
        Ok(epochs)
    }

    /// Waits until every fleet has been read once, or could not be.
    pub(crate) async fn first_look(&self) {
        let mut looked = self.looked.subscribe();
        // The sender lives as long as this.
        let _told = looked.wait_for(|()| self.has_looked()).await;
    }

    fn has_looked(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let looked = |fleet: &FleetUrl| {
            let known = known.get(&fleet.to_string());
            known.is_some_and(|it| it.read_at.is_some() || it.problem.is_some())
        };
        self.fleets.iter().all(looked)
    }

    /// What is counted of each fleet.
    pub(crate) fn figures(&self) -> Vec<FleetFigures> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let figures = |(name, reads): (&String, &Reads)| {
            let known = known.get(name).cloned().unwrap_or_default();
            // Of a fleet that was read every state is there, so that an alert sees one go from none
            // to some.
            let states = NodeView::STATES.iter().filter(|_| known.read_at.is_some());
            let mut nodes: BTreeMap<String, u64> =
                states.map(|state| ((*state).to_owned(), 0)).collect();
            for node in known.nodes {
                *nodes.entry(node.state).or_default() += 1;
            }
            FleetFigures {
                name: name.clone(),
                read: reads.read.get(),
                failed: reads.failed.get(),
                read_at: known.read_at,
                nodes,
            }
        };
        self.reads.iter().map(figures).collect()
    }

    /// The page of all fleets.
    pub(crate) fn page(&self, live: &LiveNodes) -> FleetsPage {
        let now = wall_now();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut needs, mut named) = (Vec::new(), Vec::new());
        let mut fleets = Vec::new();
        for fleet in &self.fleets {
            let known = known.get(&fleet.to_string()).cloned().unwrap_or_default();
            let mut nodes = Vec::new();
            for view in known.nodes {
                let url = NodeUrl { fleet: fleet.clone(), node: view.node.clone(), moment: None };
                let said = live.node(&view.node, view.epoch);
                if let Some(said) = &said {
                    named.push(said.address.to_string());
                }
                needs.extend(needs_of(&view, &url));
                if let Some(breaks) = known.breaks.get(&view.node) {
                    needs.extend(needs_of_breaks(&view, breaks, &url));
                }
                match &said {
                    Some(said) => needs.extend(needs_of_live(said)),
                    None => needs.extend(needs_of_figures(&view, &url)),
                }
                nodes.push(row(view, &url, said.as_ref()));
            }
            let (read_at, problem) = (known.read_at, known.problem);
            fleets.push(FleetView { fleet: fleet.to_string(), read_at, problem, nodes });
        }
        let alone =
            live.said().into_iter().filter(|said| !named.contains(&said.address.to_string()));
        let alone: Vec<Said> = alone.collect();
        needs.extend(alone.iter().flat_map(needs_of_live));
        FleetsPage {
            needs: Needs::of(needs),
            fleets,
            nodes: alone.iter().map(row_of_live).collect(),
            read_every_s: self.every.as_secs(),
            now,
        }
    }
}

fn row(view: NodeView, url: &NodeUrl, said: Option<&Said>) -> NodeRow {
    let address = node_path(url);
    let asked = said.and_then(Said::shown).map(|overview| overview.counts.clone());
    let runs = asked.or_else(|| view.runs.as_ref().map(|figures| figures.by_status.clone()));
    NodeRow {
        node: view.node.to_string(),
        runs_address: format!("{address}@latest/runs"),
        address,
        state: view.state,
        problem: view.problem,
        epoch: view.epoch,
        host: view.holder.map(|holder| holder.host),
        heartbeat_at: view.heartbeat_at,
        wal_lag_bytes: view.wal_lag_bytes,
        runs,
        live: said.map(|said| live_path(&said.address) + "/"),
    }
}

fn row_of_live(said: &Said) -> NodeRow {
    let address = live_path(&said.address);
    let (state, problem, name, epoch) = match &said.identity {
        Ok(it) => {
            let name = it.node.as_ref().map_or_else(|| it.app.clone(), ToString::to_string);
            (it.status.clone(), None, name, it.epoch)
        }
        Err(why) => ("silent".to_owned(), Some(why.clone()), said.address.to_string(), None),
    };
    NodeRow {
        node: name,
        runs_address: format!("{address}/runs"),
        address: address + "/",
        state,
        problem,
        epoch,
        host: None,
        heartbeat_at: None,
        wal_lag_bytes: None,
        runs: said.shown().map(|overview| overview.counts.clone()),
        live: None,
    }
}
