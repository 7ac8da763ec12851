//! Moments in a bucket, against a real MinIO and a real Litestream.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../bucket/tests/server/mod.rs"]
#[expect(dead_code, reason = "shared with the tests of the bucket crate")]
mod server;

use std::path::Path;

use server::{Shipper, TestServer, node_keys, nonce, settings, tool};
use tidemill_bucket::{LeaseStore, Litestream, Put, Store, create_epoch};
use tidemill_eventlog::{Appender, Checkpoints, Head, query};
use tidemill_model::{
    BootId, Covered, Durability, Epoch, EpochDoc, Event, InstanceId, Json, LeaseDoc, LeaseStatus,
    LogSum, NodeId, NodeKeys, OpName, RunCreated, RunId, Seed, SidecarState, Timestamp, Ttl, Txid,
    Versions,
};
use tidemill_observer::{Access, Cache, Error, ErrorKind, History, Origin, Source, nodes};

/// A node whose log grew by a run each time it was shipped.
struct Node {
    store: Store,
    keys: NodeKeys,
    /// After each shipment: the point it made, and the log's head in it.
    points: Vec<(Txid, Head)>,
    access: Access,
    _folders: [tempfile::TempDir; 2],
    _server: TestServer,
}

fn now() -> Timestamp {
    tidemill_eventlog::host::wall_now()
}

impl Node {
    async fn with_runs(bucket: &str, runs: usize) -> Node {
        let server = TestServer::start();
        let store = server.store(bucket).await;
        let keys = node_keys("fleet", "n1");
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let litestream = Litestream::at(tool("litestream")).await.unwrap();
        let path = data.path().join("workflow.db");
        tidemill_eventlog::create(&path).unwrap();
        let connection = tidemill_eventlog::open_writer(&path, Checkpoints::ByLitestream).unwrap();
        let mut appender = Appender::load(&connection).unwrap();
        let shipper = Shipper::of(&litestream, &store, &keys.epoch(Epoch::FIRST), &path);
        let mut points = Vec::new();
        for n in 0..runs {
            append_run(&connection, &mut appender, &format!("run-{n}"));
            shipper.ship();
            let timeline = tidemill_bucket::read_timeline(&store, &keys).await.unwrap();
            points.push((timeline.latest().unwrap().txid, appender.head()));
        }
        create_epoch(&store, &keys, &epoch_doc()).await.unwrap();
        let access = Access {
            s3: settings(server.endpoint()),
            cache: Cache::new(cache.path().to_owned()),
            litestream: Some(litestream.path().to_owned()),
            token: None,
            now: now(),
        };
        Node { store, keys, points, access, _folders: [data, cache], _server: server }
    }

    fn source(&self, moment: &str) -> Source {
        format!("s3://{}/fleet/n1{moment}", self.store.bucket()).parse().unwrap()
    }

    /// Writes a lease that says that this was covered.
    async fn say_covered(&self, txid: Txid, head: Head, sum: LogSum) {
        let covered = Covered { epoch: Epoch::FIRST, txid, seq: head.seq, sum };
        let leases = LeaseStore::new(self.store.clone(), &self.keys);
        let there = leases.read().await.unwrap();
        let put = leases.swap(&lease(covered), there.as_ref().map(|lease| &lease.etag)).await;
        assert!(matches!(put.unwrap(), Put::Written(_)));
    }

    async fn runs_at(&self, moment: &str) -> Result<usize, Error> {
        let snapshot = self.access.open(&self.source(moment)).await?;
        let filter = query::RunFilter { limit: 100, ..query::RunFilter::default() };
        Ok(query::runs(snapshot.connection(), &filter).unwrap().len())
    }

    fn kept(&self) -> usize {
        // All but the cache's own lock file.
        files_below(self.access.cache.folder().unwrap())
            - usize::from(self.access.cache.folder().unwrap().join(".restoring").exists())
    }
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

fn epoch_doc() -> EpochDoc {
    EpochDoc {
        v: 1,
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch::FIRST,
        instance: InstanceId::from_random([1; 16]),
        acquired: nonce(1),
        at: now(),
        base: None,
        ttl: None,
        host: None,
        given_up: None,
        versions: Versions::new(),
        unknown: serde_json::Map::new(),
    }
}

fn lease(covered: Covered) -> LeaseDoc {
    LeaseDoc {
        v: 1,
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch::FIRST,
        instance: InstanceId::from_random([1; 16]),
        acquired: nonce(1),
        nonce: nonce(2),
        ttl: Ttl::from_millis(600_000).unwrap(),
        released: false,
        covered: Some(covered),
        status: LeaseStatus {
            state: SidecarState::Ready,
            host: "vm-1".into(),
            pid: 7,
            boot: BootId::new("b").unwrap(),
            version: "0".into(),
            // The holder's clock is decades behind: the age of its heartbeat is by the store's.
            at: Timestamp::from_micros(0).unwrap(),
            wal_lag_bytes: 0,
            shipped_until: None,
            runs: None,
            unknown: serde_json::Map::new(),
        },
        unknown: serde_json::Map::new(),
    }
}

fn append_run(connection: &rusqlite::Connection, appender: &mut Appender, run: &str) {
    let run = RunId::new(run).unwrap();
    let event = Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new("sweep").unwrap(),
        input: Json::null(),
        labels: std::collections::BTreeMap::new(),
        seed: Seed::from_random([1; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }));
    let transaction = connection.unchecked_transaction().unwrap();
    let appended = appender.append(&transaction, now(), Some(&run), &event).unwrap();
    tidemill_eventlog::projection::project(&transaction, appended, Some(&run), &event).unwrap();
    transaction.commit().unwrap();
    appender.committed();
}

#[tokio::test]
async fn each_moment_shows_what_was_there_and_is_kept() {
    let node = Node::with_runs("moments", 3).await;
    let (last, head) = node.points[2];
    node.say_covered(last, head, head.sum).await;
    assert_eq!(node.runs_at("").await.unwrap(), 3);
    assert_eq!(node.runs_at("@latest").await.unwrap(), 3);
    assert_eq!(node.runs_at("@e1").await.unwrap(), 3);
    for (count, (txid, _)) in (1..).zip(&node.points) {
        assert_eq!(node.runs_at(&format!("@e1:{txid}")).await.unwrap(), count);
    }
    let snapshot = node.access.open(&node.source("")).await.unwrap();
    assert!(matches!(snapshot.origin(), Origin::Bucket { txid, .. } if *txid == last));
    let written = snapshot.connection().execute("DELETE FROM events", []);
    assert!(written.unwrap_err().to_string().contains("readonly"));
    assert_eq!(node.kept(), 3, "three moments were restored, once each");
}

#[tokio::test]
async fn a_moment_that_is_not_there_says_what_is() {
    let node = Node::with_runs("no-moments", 1).await;
    let (txid, _) = node.points[0];
    let error = node.runs_at("@e1:0000000000000999").await.unwrap_err().to_string();
    assert!(error.contains(&format!("the nearest before it, the last, is @e1:{txid}")), "{error}");
    let error = node.runs_at("@e7").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("s3://no-moments/fleet/n1: the node has no epoch 7"));
    let error = node.runs_at("@2000-01-01T00:00:00Z").await.unwrap_err().to_string();
    assert!(error.contains("the oldest is"), "{error}");
    let error = node.runs_at("@2100-01-01T00:00:00Z").await.unwrap_err().to_string();
    assert!(error.contains("the bucket is known to hold what the node did until"), "{error}");
}

#[tokio::test]
async fn a_replica_that_lost_its_newest_files_is_not_shown_as_the_latest() {
    let node = Node::with_runs("tails", 3).await;
    let (last, head) = node.points[2];
    node.say_covered(last, head, head.sum).await;
    let (before, _) = node.points[1];
    for object in node.store.list(&node.keys.epochs()).await.unwrap() {
        let name = object.key.rsplit('/').next().unwrap().strip_suffix(".ltx");
        let max = name.and_then(|name| name.split_once('-')).map(|(_, max)| max.parse::<Txid>());
        if max.is_some_and(|max| max.unwrap() > before) {
            node.store.delete(&object.key).await.unwrap();
        }
    }
    let error = node.runs_at("@latest").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("lost its newest files"), "{error}");
    assert_eq!(node.runs_at(&format!("@e1:{before}")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_file_that_is_not_what_was_covered_is_refused_and_not_kept() {
    let node = Node::with_runs("lies", 2).await;
    let (last, head) = node.points[1];
    node.say_covered(last, head, LogSum::new(1)).await;
    let error = node.runs_at("@latest").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("is not the one that lease.json has"), "{error}");
    assert_eq!(node.kept(), 0);
    let later = Head { seq: head.seq.next(), ..head };
    node.say_covered(last, later, head.sum).await;
    let error = node.runs_at("@latest").await.unwrap_err().to_string();
    assert!(error.contains("it ends at event 2, and lease.json says"), "{error}");
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("workflow.db");
    let error = node.access.restore_to(&node.source(""), &target, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_fleet_and_a_timeline_are_listed_and_the_latest_is_restored() {
    let node = Node::with_runs("lists", 2).await;
    let fleet = "s3://lists/fleet".parse().unwrap();
    assert_eq!(nodes(&node.access, &fleet).await.unwrap()[0].state, "unclaimed");
    let (last, head) = node.points[1];
    node.say_covered(last, head, head.sum).await;
    let listed = nodes(&node.access, &fleet).await.unwrap();
    assert_eq!((listed.len(), listed[0].state.as_str()), (1, "ready"));
    let History::Bucket(history) = node.access.history(&node.source("")).await.unwrap() else {
        panic!("a bucket has the timeline of a bucket")
    };
    assert_eq!(history.latest, Some(format!("e1:{last}")));
    assert!(history.epochs[0].points.iter().all(|point| point.lineage));
    let stranger = "s3://lists/fleet/other".parse().unwrap();
    let error = node.access.history(&stranger).await.unwrap_err();
    assert!(error.to_string().contains("has nothing in the bucket"), "{error}");
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("workflow.db");
    let restored = node.access.restore_to(&node.source(""), &target, None).await.unwrap();
    assert_eq!(restored.head, head);
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
}
