//! The store probe: by hand, and what a node's first start remembers of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process;

#[test]
fn a_store_is_tried_by_hand_and_nothing_is_left_in_it() {
    let bucket = Bucket::new();
    let said = process::tidemill(&bucket, &["probe", &bucket.fleet()]).ok();
    assert_eq!(said.lines().count(), 7, "{said}");
    assert!(said.lines().all(|line| line.starts_with("kept ")), "{said}");
    let rules = process::tidemill(&bucket, &["probe", &bucket.fleet(), "--json"]).json();
    let kept = rules.as_array().expect("a list").iter().all(|rule| rule["kept"] == true);
    assert!(kept, "{rules}");
    assert!(bucket.keys("").is_empty(), "{:?}", bucket.keys(""));
    let missing = process::tidemill(&bucket, &["probe", "s3://tidemill-it-no-such-bucket/fleet"]);
    assert_eq!(missing.code, 1);
    assert!(missing.error().contains("does not exist"));
}

/// A store that takes every write, whatever its condition; gives its address.
fn careless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            // A client that disconnected wants no answer.
            std::thread::spawn(move || drop(agree(&client)));
        }
    });
    format!("http://{address}")
}

fn agree(mut client: &TcpStream) -> std::io::Result<()> {
    let (mut reader, mut length) = (BufReader::new(client), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    write!(
        client,
        "HTTP/1.1 200 OK\r\netag: \"same\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_store_that_breaks_rules_fails_the_trial_and_gets_no_node() {
    let (bucket, store) = (Bucket::new(), careless());
    let probe = ["probe", "s3://any/fleet", "--endpoint", &store];
    let said = process::tidemill(&bucket, &probe);
    assert_eq!(said.code, 1, "{said:#?}");
    let broken = |line: &&str| line.starts_with("BROKEN ");
    assert_eq!(said.stdout.lines().filter(broken).count(), 3, "{}", said.stdout);
    assert!(said.stdout.contains("BROKEN  `If-None-Match: *`"), "{}", said.stdout);
    let said = process::tidemill(&bucket, &[&probe[..], &["--json"]].concat());
    let rules: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let broken = rules.as_array().expect("a list").iter().filter(|rule| rule["kept"] == false);
    assert_eq!((said.code, broken.count()), (1, 3), "{rules}");

    let mut vm = Machine::new(&bucket, "vm", "n1").env("AWS_ENDPOINT_URL", &store);
    vm.start();
    assert_eq!(vm.wait_exit(Duration::from_secs(60)), 1);
    assert!(vm.log().contains("does not keep this rule: `If-None-Match: *`"), "{}", vm.log());
}

#[test]
fn a_fleets_first_node_remembers_that_a_race_had_one_winner() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_state("ready");
    let proven = bucket.json("fleet/probe.json").expect("it is remembered");
    assert_eq!((&proven["v"], &proven["raced"]), (&json!(1), &json!(100)));
    assert_eq!(bucket.keys("fleet/race-"), [""; 0], "the race leaves no object");
    assert_eq!(vm.shut_down(), 0);
}
