//! Everything of this crate that talks to S3, against a real MinIO and a real Litestream.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fake;
mod newest_first;
mod server;

use bytes::Bytes;
use fake::{Lie, Reply};
use server::{Shipper, TestServer, node_keys, nonce, settings};
use tidemill_bucket::{
    Created, Credentials, ErrorKind, LeaseStore, Listed, Litestream, Moment, PageCheck, Put, Rule,
    Secret, Settings, Settled, Store, create_break, create_epoch, examine, list_epochs, list_nodes,
    probe, read_breaks, read_timeline, restore,
};
use tidemill_model::{
    BootId, BreakDoc, Epoch, EpochDoc, FleetUrl, InstanceId, LeaseDoc, LeaseStatus, NodeId, Nonce,
    SidecarState, Timestamp, Ttl, Txid, Versions,
};

const NEVER: &str = "this answer was not expected";

fn now() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).unwrap()
}

fn lease(nonce: Nonce) -> LeaseDoc {
    LeaseDoc {
        v: 1,
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch::FIRST,
        instance: InstanceId::from_random([1; 16]),
        acquired: nonce.clone(),
        nonce,
        ttl: Ttl::default(),
        released: false,
        covered: None,
        status: LeaseStatus {
            state: SidecarState::Starting,
            host: "h".into(),
            pid: 1,
            boot: BootId::new("b").unwrap(),
            version: "0".into(),
            at: now(),
            wal_lag_bytes: 0,
            shipped_until: None,
            runs: None,
            unknown: serde_json::Map::new(),
        },
        unknown: serde_json::Map::new(),
    }
}

fn doc(instance: u8) -> EpochDoc {
    EpochDoc {
        v: 1,
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch::FIRST,
        instance: InstanceId::from_random([instance; 16]),
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

#[tokio::test]
async fn a_conditional_write_happens_or_is_lost() {
    let server = TestServer::start();
    let store = server.store("writes").await;
    store.check().await.unwrap();
    assert!(store.find("a").await.unwrap().is_none());
    assert_eq!(store.get("a").await.unwrap_err().kind(), ErrorKind::NotFound);
    let Put::Written(first) = store.put_if_absent("a", Bytes::from("1")).await.unwrap() else {
        panic!("{NEVER}")
    };
    assert!(matches!(store.put_if_absent("a", Bytes::from("x")).await.unwrap(), Put::Lost));
    let second = store.put_if_match("a", &first, Bytes::from("2")).await.unwrap();
    assert!(matches!(second, Put::Written(_)));
    assert!(matches!(store.put_if_match("a", &first, Bytes::from("x")).await.unwrap(), Put::Lost));
    assert!(matches!(store.put_if_match("b", &first, Bytes::from("x")).await.unwrap(), Put::Lost));
    let object = store.get("a").await.unwrap();
    assert_eq!(object.body, Bytes::from("2"));
    assert!(matches!(second, Put::Written(etag) if etag == object.etag));
    store.put("many/1/x", Bytes::new()).await.unwrap();
    store.put("many/2/x", Bytes::new()).await.unwrap();
    assert_eq!(store.folders("many/").await.unwrap(), ["1", "2"]);
    assert_eq!(store.list("many/").await.unwrap().len(), 2);
    store.delete("many/1/x").await.unwrap();
    store.delete("many/1/x").await.unwrap();
    assert_eq!(store.list("many/").await.unwrap()[0].key, "many/2/x");
}

#[tokio::test]
async fn a_listing_has_all_its_pages() {
    let server = TestServer::start();
    let store = server.store("pages").await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..1_005 {
        let store = store.clone();
        writes.spawn(async move { store.put(&format!("p/{n:05}"), Bytes::new()).await });
        if writes.len() >= 32 {
            writes.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    while let Some(write) = writes.join_next().await {
        write.unwrap().unwrap();
    }
    let keys: Vec<String> = store.list("p/").await.unwrap().into_iter().map(|o| o.key).collect();
    assert_eq!(keys.len(), 1_005);
    assert!(keys.is_sorted());
    // From a key on, whether it is there or not.
    for (after, first, count) in [("p/00003", "p/00004", 1_001), ("p/00003.", "p/00004", 1_001)] {
        let rest = store.list_after("p/", after).await.unwrap();
        assert_eq!((rest[0].key.as_str(), rest.len()), (first, count));
    }
    assert!(store.list_after("p/", "p/01004").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_setting_is_one_line_that_says_what_to_do() {
    let server = TestServer::start();
    server.store("errors").await;
    let line = async |bucket: &str, settings: Settings| {
        let error = match Store::connect(bucket, &settings).await {
            Ok(store) => store.check().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(!error.message().contains('\n'));
        (error.kind(), error.message().replace(server.endpoint(), "ENDPOINT"))
    };
    let good = settings(server.endpoint());
    let (kind, text) = line("no-such-bucket", good.clone()).await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert_eq!(
        text,
        "bucket `no-such-bucket` does not exist at ENDPOINT: create it, or correct the name"
    );
    let lease = LeaseStore::new(
        Store::connect("no-such-bucket", &good).await.unwrap(),
        &node_keys("fleet", "n1"),
    );
    assert!(lease.read().await.unwrap_err().message().contains("does not exist"));

    let wrong = |id: &str, secret: &str| Credentials {
        access_key_id: id.into(),
        secret_access_key: Secret::new(secret),
        session_token: None,
        expires_at: None,
    };
    for (id, secret, code) in
        [("nobody", "x", "InvalidAccessKeyId"), (server::KEY.0, "x", "SignatureDoesNotMatch")]
    {
        let settings = Settings { credentials: Some(wrong(id, secret)), ..good.clone() };
        let (kind, text) = line("errors", settings).await;
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(text.contains(code) && text.contains("check AWS_ACCESS_KEY_ID"), "{text}");
    }

    let closed = server::unused_port();
    let nowhere = Settings { endpoint: Some(format!("http://127.0.0.1:{closed}")), ..good.clone() };
    let (kind, text) = line("errors", nowhere.clone()).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.starts_with(&format!("cannot reach S3 at http://127.0.0.1:{closed}")), "{text}");
    assert!(text.contains("refused") && text.contains("check the endpoint"), "{text}");
    let store = Store::connect("errors", &nowhere).await.unwrap();
    let put = store.put_if_absent("a", Bytes::new()).await.unwrap();
    assert!(matches!(put, Put::Ambiguous(_)), "{put:?}");

    let no_scheme = Settings { endpoint: Some("127.0.0.1:9000".into()), ..good };
    assert!(line("errors", no_scheme).await.1.contains("use http://HOST:PORT"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_leaves_a_write_ambiguous() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let patience = std::time::Duration::from_millis(300);
    let settings = Settings { request_timeout: patience, ..settings(&endpoint) };
    let store = Store::connect("silent", &settings).await.unwrap();
    let put = store.put_if_absent("a", Bytes::new()).await.unwrap();
    let Put::Ambiguous(error) = put else { panic!("{NEVER}") };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no answer"), "{error}");
    assert!(store.get_once("a").await.unwrap_err().message().contains("no answer"));
}

#[tokio::test]
async fn an_answer_that_does_not_tell_leaves_a_write_ambiguous() {
    for (reply, ambiguous) in [
        (Reply::HangUp, true),
        (Reply::Status(500, ""), true),
        (Reply::Status(503, ""), true),
        (Reply::Status(409, ""), true),
        (Reply::Status(412, ""), false),
        (Reply::Status(404, ""), false),
    ] {
        let endpoint = fake::serve(move |_| reply);
        let store = Store::connect("fake", &settings(&endpoint)).await.unwrap();
        let etag = "\"x\"".parse().unwrap();
        let put = store.put_if_match("a", &etag, Bytes::new()).await.unwrap();
        let as_expected = match put {
            Put::Ambiguous(_) => ambiguous,
            Put::Lost => !ambiguous,
            Put::Written(_) => false,
        };
        assert!(as_expected, "{reply:?} is {put:?}");
    }
    let endpoint = fake::serve(|_| Reply::Status(403, ""));
    let store = Store::connect("fake", &settings(&endpoint)).await.unwrap();
    let refused = store.put_if_absent("a", Bytes::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_ignores_conditions() {
    let none_match = fake::serve(|_| Reply::Status(200, "same"));
    let only_none_match = fake::serve(|request| match &request.condition {
        Some((name, _)) if name == "if-none-match" => Reply::Status(412, ""),
        _ => Reply::Status(200, "same"),
    });
    for (endpoint, condition) in [(none_match, "If-None-Match"), (only_none_match, "If-Match")] {
        let store = Store::connect("fake", &settings(&endpoint)).await.unwrap();
        let error =
            probe(&store, &fleet(), &node_keys("fleet", "n1"), &nonce(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(&format!("this rule: `{condition}")), "{error}");
        assert!(!examine(&store, &fleet(), &nonce(2)).await.unwrap().is_empty());
    }
    let busy = fake::serve(|request| match request.method.as_str() {
        "PUT" => Reply::Status(503, ""),
        _ => Reply::Status(200, "same"),
    });
    let store = Store::connect("fake", &settings(&busy)).await.unwrap();
    let error = probe(&store, &fleet(), &node_keys("fleet", "n1"), &nonce(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_probe_accepts_a_store_that_keeps_conditions() {
    let server = TestServer::start();
    let store = server.store("probe").await;
    let keys = node_keys("fleet", "n1");
    for round in 0..3 {
        probe(&store, &fleet(), &keys, &nonce(round)).await.unwrap();
    }
    assert!(store.find(&keys.lease()).await.unwrap().is_none());
    let names = |listed: Vec<Listed>| listed.into_iter().map(|o| o.key).collect::<Vec<_>>();
    let left = names(store.list("").await.unwrap());
    assert_eq!(left, [keys.probe(), fleet().probe()], "the race is remembered and its object gone");
    let proven = store.get(&fleet().probe()).await.unwrap().body;
    assert!(proven.windows(12).any(|part| part == br#""raced":100,"#), "{proven:?}");
    assert_eq!(examine(&store, &fleet(), &nonce(9)).await.unwrap(), []);
    assert_eq!(names(store.list("").await.unwrap()), left, "by hand it leaves nothing");
}

/// Each lie is told by a store that otherwise keeps one object as it should.
#[tokio::test]
async fn the_probe_finds_out_reads_listings_and_races_that_lie() {
    for (lie, rule) in [
        (Lie::OldRead(2), Rule::ReadBack),
        (Lie::OldRead(3), Rule::ReadBack),
        (Lie::OldContent, Rule::ReadBack),
        (Lie::OldListing, Rule::Listed),
        (Lie::OldSize, Rule::Listed),
        (Lie::WholeForRange, Rule::Range),
        (Lie::TwoWinners(2), Rule::OneWinner),
        (Lie::TwoWinners(100), Rule::OneWinner),
        (Lie::OtherWinner, Rule::OneWinner),
        (Lie::RefusesSwaps, Rule::PresentVersion),
    ] {
        let endpoint = fake::lying(lie);
        let store = Store::connect("fake", &settings(&endpoint)).await.unwrap();
        assert_eq!(examine(&store, &fleet(), &nonce(1)).await.unwrap(), [rule], "{lie:?}");
        let error = probe(&store, &fleet(), &node_keys("fleet", "n1"), &nonce(2)).await;
        assert!(error.unwrap_err().message().contains(&rule.to_string()), "{lie:?}");
    }
    for honest in [Lie::None, Lie::MuteWinner] {
        let store = Store::connect("fake", &settings(&fake::lying(honest))).await.unwrap();
        assert_eq!(examine(&store, &fleet(), &nonce(1)).await.unwrap(), [], "{honest:?}");
    }
}

#[tokio::test]
async fn a_race_that_is_remembered_is_not_run_again_except_by_hand() {
    let store = Store::connect("fake", &settings(&fake::lying(Lie::TwoWinners(2)))).await.unwrap();
    let keys = node_keys("fleet", "n1");
    probe(&store, &fleet(), &keys, &nonce(1)).await.unwrap_err();
    assert!(store.find(&fleet().probe()).await.unwrap().is_none(), "there is nothing to remember");
    store.put(&fleet().probe(), Bytes::from("{}")).await.unwrap();
    probe(&store, &fleet(), &keys, &nonce(2)).await.unwrap();
    assert_eq!(examine(&store, &fleet(), &nonce(3)).await.unwrap(), [Rule::OneWinner]);
}

fn fleet() -> FleetUrl {
    "s3://fake/fleet".parse().unwrap()
}

#[tokio::test]
async fn a_lease_is_swapped_only_over_what_was_read() {
    let server = TestServer::start();
    let store = server.store("leases").await;
    let leases = LeaseStore::new(store, &node_keys("fleet", "n1"));
    assert_eq!(leases.read().await.unwrap(), None);
    assert_eq!(leases.settle(&nonce(1)).await.unwrap(), Settled::Absent);
    let Put::Written(etag) = leases.swap(&lease(nonce(1)), None).await.unwrap() else {
        panic!("{NEVER}")
    };
    assert!(matches!(leases.swap(&lease(nonce(2)), None).await.unwrap(), Put::Lost));
    let read = leases.read().await.unwrap().unwrap();
    assert_eq!((read.doc, &read.etag), (lease(nonce(1)), &etag));
    let swapped = leases.swap(&lease(nonce(3)), Some(&etag)).await.unwrap();
    assert!(matches!(swapped, Put::Written(_)));
    assert!(matches!(leases.swap(&lease(nonce(4)), Some(&etag)).await.unwrap(), Put::Lost));
    assert!(matches!(leases.settle(&nonce(3)).await.unwrap(), Settled::Ours(_)));
    assert!(matches!(leases.settle(&nonce(4)).await.unwrap(), Settled::Other(_)));
}

#[tokio::test]
async fn an_epoch_begins_once() {
    let server = TestServer::start();
    let store = server.store("epochs").await;
    let fleet: FleetUrl = "s3://epochs/team/fleet".parse().unwrap();
    let node = NodeId::new("n1").unwrap();
    let keys = fleet.node(&node);
    assert_eq!(create_epoch(&store, &keys, &doc(1)).await.unwrap(), Created::Ours);
    assert_eq!(create_epoch(&store, &keys, &doc(1)).await.unwrap(), Created::Ours);
    let other = create_epoch(&store, &keys, &doc(2)).await.unwrap();
    assert_eq!(other, Created::Other(Box::new(doc(1))));
    let broken = BreakDoc {
        v: 1,
        after: None,
        until: Some(Txid::new(7).unwrap()),
        reason: "the app was killed".into(),
        at: now(),
        unknown: serde_json::Map::new(),
    };
    let open = BreakDoc { until: None, ..broken.clone() };
    for doc in [&open, &broken] {
        create_break(&store, &keys, Epoch::FIRST, doc).await.unwrap();
        // Written again after a crash, at another time: the same break.
        let again = BreakDoc { at: now(), reason: "again".into(), ..doc.clone() };
        create_break(&store, &keys, Epoch::FIRST, &again).await.unwrap();
    }
    let other = BreakDoc { after: Some(Txid::new(3).unwrap()), ..broken.clone() };
    let error = create_break(&store, &keys, Epoch::FIRST, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("this range is not marked"), "{error}");
    let timeline = read_timeline(&store, &keys).await.unwrap();
    assert_eq!(timeline.epochs[0].breaks, std::slice::from_ref(&broken));
    assert_eq!(read_breaks(&store, &keys, Epoch::FIRST).await.unwrap(), [broken]);
    assert_eq!(read_breaks(&store, &keys, Epoch::FIRST.next()).await.unwrap(), []);
    assert_eq!(list_nodes(&store, &fleet).await.unwrap(), [node]);
    assert_eq!(list_epochs(&store, &keys).await.unwrap(), [Epoch::FIRST]);
}

#[tokio::test]
async fn every_point_is_restored_as_it_was() {
    let server = TestServer::start();
    let store = server.store("points").await;
    let keys = node_keys("fleet", "n1");
    let dir = tempfile::tempdir().unwrap();
    let litestream = Litestream::at(server::tool("litestream")).await.unwrap();
    let source = dir.path().join("source.db");
    let db = server::database(&source);
    let shipper = Shipper::of(&litestream, &store, &keys.epoch(Epoch::FIRST), &source);
    let mut shipped: Vec<(Txid, i64)> = Vec::new();
    for rows in 1..=4 {
        db.execute("INSERT INTO t VALUES (1)", []).unwrap();
        shipper.ship();
        let timeline = read_timeline(&store, &keys).await.unwrap();
        shipped.push((timeline.latest().unwrap().txid, rows));
    }
    assert!(shipped.is_sorted_by(|a, b| a.0 < b.0), "{shipped:?}");
    let timeline = read_timeline(&store, &keys).await.unwrap();
    assert!(timeline.epochs[0].gaps.is_empty());
    let txids: Vec<Txid> = shipped.iter().map(|(txid, _)| *txid).collect();
    assert!(txids.iter().all(|txid| timeline.epochs[0].contains(*txid)));
    for (txid, rows) in shipped {
        let into = tempfile::tempdir().unwrap();
        let to = (into.path(), PageCheck::ByLitestream);
        let restored = restore(&litestream, &store, &keys, Epoch::FIRST, txid, to).await.unwrap();
        assert_eq!(server::count_rows(restored.path()), rows, "{txid}");
        drop(restored);
        assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
    }
    let latest = timeline
        .resolve(&Moment::Latest, tidemill_bucket::Now { at: now(), shipped_until: None })
        .unwrap();
    assert_eq!(Some(latest.txid), txids.last().copied());
    let (never, to) = (Txid::new(999).unwrap(), (dir.path(), PageCheck::ByLitestream));
    let error = restore(&litestream, &store, &keys, Epoch::FIRST, never, to).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("s3://points/fleet/nodes/n1/epochs/0000000001"), "{error}");
}

#[tokio::test]
async fn a_litestream_that_is_missing_or_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Litestream::at(dir.path().join("litestream")).await.unwrap_err();
    assert!(missing.message().contains("run `tidemill install-litestream`"), "{missing}");
    let other = dir.path().join("other");
    server::write_script(&other, "#!/bin/sh\necho v0.5.17\n");
    let error = Litestream::at(other).await.unwrap_err();
    assert!(
        error.message().contains("is litestream 0.5.17: run `tidemill install-litestream`"),
        "{error}"
    );
}
