//! How many requests a node with many epochs costs, counted on the wire.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidemill_bucket::{Moment, Now, Question, Store, create_epoch, list_epochs, read_for};
use tidemill_model::{Base, Epoch, EpochDoc, Level, LogSum, LtxName, NodeKeys, Seq, Txid};

use crate::server::{TestServer, node_keys, settings};

const EPOCHS: u64 = 365;

/// The requests of a listing, a take-over or a moment, whatever the number of epochs: the epochs,
/// level 1, the end of level 0, what follows, and the newest `epoch.json`.
const REQUESTS_MAX: usize = 5;

/// Passes bytes on to a server and counts the requests, none of which has a body.
struct Counter {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Counter {
    fn before(endpoint: &str) -> Counter {
        let to = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(&to).unwrap();
                let (from_client, from_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                let count = Arc::clone(&count);
                std::thread::spawn(move || pass(from_client, server, &count));
                std::thread::spawn(move || pass(from_server, client, &AtomicUsize::new(0)));
            }
        });
        Counter { endpoint, requests }
    }

    fn taken(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

/// Copies until one side closes; counts the empty lines that end a request's head.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicUsize) {
    const END: &[u8] = b"\r\n\r\n";
    let (mut buffer, mut matched) = ([0; 4096], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        for &byte in &buffer[..length] {
            matched = if byte == END[matched] { matched + 1 } else { usize::from(byte == END[0]) };
            if matched == END.len() {
                count.fetch_add(1, Ordering::SeqCst);
                matched = 0;
            }
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side may have closed it first.
    let _closed = to.shutdown(Shutdown::Both);
}

fn file(keys: &NodeKeys, epoch: Epoch, level: Level, min: u64, max: u64) -> String {
    let name = LtxName { min: Txid::new(min).unwrap(), max: Txid::new(max).unwrap() };
    format!("{}{name}", keys.level(epoch, level))
}

/// A node that was taken over once a day: each owner shipped 5 transactions, and the next one began
/// from the last of them.
async fn fill(store: &Store, keys: &NodeKeys, doc: &EpochDoc) {
    let mut writes = tokio::task::JoinSet::new();
    for n in 1..=EPOCHS {
        let epoch = Epoch::new(n).unwrap();
        let base = (n > 1).then(|| Base::Restored {
            epoch: Epoch::new(n - 1).unwrap(),
            txid: Txid::new(5).unwrap(),
            seq: Seq::ZERO,
            sum: LogSum::ZERO,
        });
        let doc = EpochDoc { epoch, base, ..doc.clone() };
        let files = [(Level::COMPACTED, 1, 4), (Level::SHIPPED, 4, 4), (Level::SHIPPED, 5, 5)];
        let files = files.map(|(level, min, max)| file(keys, epoch, level, min, max));
        let (store, keys) = (store.clone(), keys.clone());
        writes.spawn(async move {
            create_epoch(&store, &keys, &doc).await.unwrap();
            for key in files {
                store.put(&key, Bytes::from("ltx")).await.unwrap();
            }
        });
        if writes.len() >= 32 {
            writes.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(write) = writes.join_next().await {
        write.unwrap();
    }
}

#[tokio::test]
async fn a_year_of_epochs_costs_as_many_requests_as_one() {
    let server = TestServer::start();
    let keys = node_keys("fleet", "n1");
    fill(&server.store("year").await, &keys, &crate::doc(1)).await;
    let counter = Counter::before(server.endpoint());
    let store = Store::connect("year", &settings(&counter.endpoint)).await.unwrap();
    assert_eq!(list_epochs(&store, &keys).await.unwrap().len(), 365);
    assert_eq!(counter.taken(), 1);

    let (newest, last) = (Epoch::new(EPOCHS).unwrap(), Txid::new(5).unwrap());
    let now = Now { at: crate::now(), shipped_until: None };
    let question = Question::Moment { moment: Moment::Latest, now: now.at };
    let latest = read_for(&store, &keys, question).await.unwrap();
    let place = latest.resolve(&Moment::Latest, now).unwrap();
    assert_eq!((place.epoch, place.txid), (newest, last));
    assert_eq!(counter.taken(), REQUESTS_MAX);

    let listed = read_for(&store, &keys, Question::TakeOver(newest.next())).await.unwrap();
    let base = listed.last_before(newest.next()).unwrap();
    assert_eq!((base.epoch, base.txid), (newest, last));
    assert_eq!(counter.taken(), REQUESTS_MAX);

    let moment = Moment::Time(place.at);
    let question = Question::Moment { moment, now: now.at };
    let at_time = read_for(&store, &keys, question).await.unwrap();
    assert_eq!(at_time.resolve(&moment, now).unwrap().txid, last);
    assert!(counter.taken() <= REQUESTS_MAX);
}
