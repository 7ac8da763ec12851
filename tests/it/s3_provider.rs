//! The S3 server of the tests is a fit one: it keeps the rules that leases are built on.

use std::sync::Barrier;

use crate::support::bucket::{Bucket, If};
use crate::support::server::Kind;

#[test]
fn the_provider_is_the_one_asked_for() {
    let bucket = Bucket::new();
    let wanted = match std::env::var("TIDEMILL_TEST_S3").as_deref() {
        Ok("env") => Kind::Env,
        Ok("docker") => Kind::Docker,
        Ok("binary") => Kind::Binary,
        _ => Kind::Development,
    };
    assert_eq!(bucket.server().kind, wanted);
}

#[test]
fn each_test_has_a_bucket_of_its_own() {
    let (one, two) = (Bucket::new(), Bucket::new());
    one.put("a/key", "mine");
    assert_eq!(one.keys(""), ["a/key"]);
    assert_eq!(two.keys(""), Vec::<String>::new());
    assert_eq!(two.get("a/key"), None);
    one.delete("a/key");
    assert_eq!(one.get("a/key"), None);
}

#[test]
fn a_create_only_write_meets_an_existing_key_with_412() {
    let bucket = Bucket::new();
    let etag = bucket.put_if("lease.json", "first", If::Absent).expect("the key is free");
    assert_eq!(bucket.put_if("lease.json", "second", If::Absent), Err(412));
    let object = bucket.get("lease.json").expect("the first write stands");
    assert_eq!((object.body.as_slice(), object.etag), (b"first".as_slice(), etag));
}

#[test]
fn a_compare_and_swap_refuses_a_stale_etag_and_an_absent_key() {
    let bucket = Bucket::new();
    let old = bucket.put("lease.json", "first");
    let new = bucket.put_if("lease.json", "second", If::Matches(&old)).expect("the ETag is right");
    assert_eq!(bucket.put_if("lease.json", "third", If::Matches(&old)), Err(412));
    assert_eq!(bucket.put_if("absent.json", "first", If::Matches(&new)), Err(404));
    assert_eq!(bucket.get("lease.json").expect("it exists").body, b"second");
}

#[test]
fn of_many_racing_writers_one_wins() {
    let bucket = Bucket::new();
    let writers = 16;
    let start = Barrier::new(writers);
    let wins = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let (bucket, start) = (&bucket, &start);
                scope.spawn(move || {
                    start.wait();
                    bucket.put_if("lease.json", format!("{writer}"), If::Absent).is_ok()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer"))
            .filter(|won| *won)
            .count()
    });
    assert_eq!(wins, 1);
}
