//! Credentials that expire: the sidecar restarts Litestream, which reads credentials only once,
//! with new ones while the app keeps working.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidemill_eventlog::host;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::witness;
use crate::support::{process, sqlite, wait};

const BOUND: Duration = Duration::from_secs(120);
/// Litestream is started again four minutes before the end, and at most twice a minute.
const LIFE: Duration = Duration::from_secs(260);

/// A container's credentials endpoint, which gives the server's keys for a short time each.
struct Keys {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Keys {
    fn serve(key: String, secret: String) -> Keys {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("it is bound").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut client in listener.incoming().filter_map(Result::ok) {
                let mut request = [0; 4096];
                if client.read(&mut request).is_err() {
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let keys = json!({
                    "AccessKeyId": key,
                    "SecretAccessKey": secret,
                    // MinIO's own keys come without one.
                    "Token": "",
                    "Expiration": host::wall_now().saturating_add(LIFE).to_string(),
                });
                let body = keys.to_string();
                let reply = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                // A client that disconnected asks again.
                let _ = client.write_all(reply.as_bytes());
            }
        });
        Keys { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[test]
fn litestream_gets_new_ones_between_two_barriers() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let environment = process::environment(&bucket);
    let value = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let keys = Keys::serve(value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"));
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .ledger(&ledger)
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{}/keys", keys.address));
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 1500, "millis": 20, "bytes": 200 }));
    let (app, litestream) = (vm.app(), vm.litestream().expect("litestream runs"));
    let before = keys.asked();
    assert!(before > 0, "nobody asked for credentials");
    vm.wait_log("litestream's credentials end soon", BOUND);
    wait::until_true("another litestream", BOUND, || {
        vm.litestream().is_some_and(|pid| pid != litestream)
    });
    assert!(keys.asked() > before, "it was started with the old ones");
    let barrier = vm.barrier_ok();
    let file = vm.restore(&format!("e1:{}", barrier["txid"].as_str().expect("a txid")));
    sqlite::assert_prefix(&file, vm.db());
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.app(), app, "the app worked on");
    assert_eq!(ledger.counts("r1", "begin").values().max(), Some(&1), "nothing ran twice");
    assert_eq!(bucket.epochs("n1"), [1]);
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
}
