//! The S3 server of the tests is a fit one: it keeps the rules that leases are built on.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::support::bucket::{Bucket, If};
use crate::support::server::{Kind, runtime};

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

/// Calls `write` in `writers` threads at once; what each gave, by its number.
fn race<T: Send>(writers: usize, write: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(writers);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let (start, write) = (&start, &write);
                scope.spawn(move || {
                    start.wait();
                    write(writer)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a writer")).collect()
    })
}

#[test]
fn of_a_hundred_racing_creates_one_wins_and_is_what_is_read() {
    let bucket = Bucket::new();
    for round in 0..5 {
        let key = format!("{round}/lease.json");
        let won = race(100, |writer| bucket.put_if(&key, format!("{writer}"), If::Absent).is_ok());
        let winners: Vec<usize> = (0..100).filter(|writer| won[*writer]).collect();
        let [winner] = winners.as_slice() else { panic!("{} writers won", winners.len()) };
        assert_eq!(bucket.get(&key).expect("the winner's").body, winner.to_string().into_bytes());
    }
}

#[test]
fn racing_swaps_lose_no_acknowledged_one() {
    let bucket = Bucket::new();
    bucket.put("counter", "0");
    let acknowledged: usize = race(8, |_| {
        let mut won = 0;
        for _ in 0..20 {
            let now = bucket.get("counter").expect("the counter");
            let count: usize = String::from_utf8(now.body).unwrap().parse().unwrap();
            let swap = bucket.put_if("counter", format!("{}", count + 1), If::Matches(&now.etag));
            won += usize::from(swap.is_ok());
        }
        won
    })
    .into_iter()
    .sum();
    let counted = bucket.get("counter").expect("the counter").body;
    assert_eq!(counted, acknowledged.to_string().into_bytes());
    assert!(acknowledged >= 20, "somebody wins each time");
}

#[test]
fn a_reader_never_sees_a_mixture_of_two_writes() {
    let bucket = Bucket::new();
    let body = |n: usize| vec![b'a' + u8::try_from(n % 26).unwrap(); 200_000 + n];
    bucket.put("object", body(0));
    let seen = race(4, |worker| {
        let mut lengths = BTreeSet::new();
        for n in 0..30 {
            if worker == 0 {
                bucket.put("object", body(n));
            } else {
                let read = bucket.get("object").expect("it is there").body;
                assert_eq!(read, body(read.len() - 200_000), "a mixture");
                lengths.insert(read.len());
            }
        }
        lengths
    });
    assert!(seen.iter().flatten().count() > 0);
}

#[test]
fn a_listing_shows_what_was_just_written_with_its_size_etag_and_time() {
    let bucket = Bucket::new();
    let client = &bucket.server().client;
    for n in 0..30_u8 {
        let key = format!("p/{n:02}");
        let etag = bucket.put(&key, vec![n; usize::from(n)]);
        runtime().block_on(async {
            let request = client.list_objects_v2().bucket(bucket.name()).prefix("p/");
            let listed = request.send().await.expect("list").contents.expect("objects");
            assert_eq!(listed.len(), usize::from(n) + 1);
            let newest = listed.last().expect("the newest");
            assert_eq!(newest.key(), Some(key.as_str()));
            assert_eq!((newest.size(), newest.e_tag()), (Some(i64::from(n)), Some(etag.as_str())));
            let head = client.head_object().bucket(bucket.name()).key(&key).send().await;
            let said = head.expect("head").last_modified.expect("a time").secs();
            assert_eq!(newest.last_modified().expect("a time").secs(), said);
        });
        bucket.delete(&format!("other/{n}"));
    }
    bucket.delete("p/00");
    assert_eq!(bucket.keys("p/").len(), 29);
}

#[test]
fn pages_of_a_listing_roll_keys_up_and_miss_none() {
    let bucket = Bucket::new();
    for key in ["a/1", "a/2", "a/b/3", "b", "c/4", "c/5"] {
        bucket.put(key, "x");
    }
    let mut found = Vec::new();
    runtime().block_on(async {
        let client = &bucket.server().client;
        let request = client.list_objects_v2().bucket(bucket.name()).delimiter("/").max_keys(1);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.expect("a page");
            found.extend(page.common_prefixes().iter().filter_map(|p| p.prefix.clone()));
            found.extend(page.contents().iter().filter_map(|object| object.key.clone()));
        }
    });
    assert_eq!(found, ["a/", "b", "c/"]);
}

#[test]
fn a_range_is_exactly_what_was_asked_for() {
    let bucket = Bucket::new();
    bucket.put("object", "0123456789");
    let client = &bucket.server().client;
    let read = |range: &str| {
        runtime().block_on(async {
            let request = client.get_object().bucket(bucket.name()).key("object").range(range);
            let reply = request.send().await.ok()?;
            let content_range = reply.content_range.clone().expect("a range");
            let body = reply.body.collect().await.expect("the body").to_vec();
            Some((String::from_utf8(body).unwrap(), content_range))
        })
    };
    let expected = |text: &str, range: &str| Some((text.to_owned(), range.to_owned()));
    assert_eq!(read("bytes=2-4"), expected("234", "bytes 2-4/10"));
    assert_eq!(read("bytes=7-"), expected("789", "bytes 7-9/10"));
    assert_eq!(read("bytes=-3"), expected("789", "bytes 7-9/10"));
    assert_eq!(read("bytes=-30"), expected("0123456789", "bytes 0-9/10"));
    assert_eq!(read("bytes=10-"), None);
}

#[test]
fn an_upload_in_parts_becomes_one_object_or_none() {
    let bucket = Bucket::new();
    let (client, name) = (&bucket.server().client, bucket.name());
    let body = |n: i32| vec![u8::try_from(n).unwrap(); if n < 3 { 5 << 20 } else { 10 }];
    runtime().block_on(async {
        let begun = client.create_multipart_upload().bucket(name).key("big").send().await;
        let id = begun.expect("begin").upload_id.expect("an id");
        let mut parts = Vec::new();
        for n in 1..=3 {
            let request =
                client.upload_part().bucket(name).key("big").upload_id(&id).part_number(n);
            let sent = request.body(ByteStream::from(body(n))).send().await.expect("a part");
            parts.push(CompletedPart::builder().part_number(n).set_e_tag(sent.e_tag).build());
        }
        assert!(bucket_is_empty(client, name).await, "nothing is there before the end");
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = client.complete_multipart_upload().bucket(name).key("big").upload_id(&id);
        complete.multipart_upload(upload).send().await.expect("complete");
        let whole = client.get_object().bucket(name).key("big").send().await.expect("get");
        let whole = whole.body.collect().await.expect("the body").to_vec();
        assert!(whole == (1..=3).flat_map(body).collect::<Vec<u8>>());
    });
}

async fn bucket_is_empty(client: &aws_sdk_s3::Client, name: &str) -> bool {
    client.list_objects_v2().bucket(name).send().await.expect("list").contents().is_empty()
}

#[test]
fn a_body_that_is_not_what_its_checksum_says_changes_nothing() {
    let bucket = Bucket::new();
    bucket.put("object", "before");
    let client = &bucket.server().client;
    let request = client.put_object().bucket(bucket.name()).key("object");
    let request = request.checksum_crc32("AAAAAA==").body(ByteStream::from_static(b"after"));
    let refused = runtime().block_on(request.send()).expect_err("another checksum");
    assert_eq!(refused.raw_response().map(|reply| reply.status().as_u16()), Some(400));
    assert_eq!(bucket.get("object").expect("it stays").body, b"before");
}

#[test]
fn an_object_s_metadata_comes_back() {
    let bucket = Bucket::new();
    let metadata = [("one".to_owned(), "1".to_owned()), ("two-three".to_owned(), "x y".to_owned())];
    bucket.put_with("object", b"body".to_vec(), metadata.clone().into());
    assert_eq!(bucket.get("object").expect("it is there").metadata, metadata.into());
}

#[test]
fn every_answer_says_the_server_s_time() {
    let bucket = Bucket::new();
    let reply = ureq::get(bucket.server().endpoint.as_str())
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .expect("an answer, be it a refusal");
    let date = reply.headers().get("date").expect("a date").to_str().unwrap();
    bucket.put("object", "x");
    let said = runtime().block_on(async {
        let client = &bucket.server().client;
        let head = client.head_object().bucket(bucket.name()).key("object").send().await;
        head.expect("head").last_modified.expect("a time").secs()
    });
    let date = aws_sdk_s3::primitives::DateTime::from_str(
        date,
        aws_sdk_s3::primitives::DateTimeFormat::HttpDate,
    );
    let apart = said.abs_diff(date.expect("a date of HTTP").secs());
    assert!(apart < 60, "Date and Last-Modified are {apart} s apart");
    #[expect(clippy::disallowed_methods, reason = "the server runs on this machine")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    assert!(now.as_secs().abs_diff(said.unsigned_abs()) < 120);
}
