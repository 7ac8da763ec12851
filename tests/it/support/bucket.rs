//! One bucket a test, and blocking calls on it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value;

use super::server::{self, Kind, Server};

/// A number that no other process draws.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The condition of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum If<'a> {
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Matches(&'a str),
}

/// What S3 holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) body: Vec<u8>,
    pub(crate) etag: String,
    pub(crate) metadata: HashMap<String, String>,
}

/// A bucket with a name of its own. On a server that is not ours it is emptied and deleted again.
pub(crate) struct Bucket {
    name: String,
    server: &'static Server,
    /// A second handle leaves the bucket to the first.
    owned: bool,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        let server = server::server();
        let name = format!("tidemill-it-{:016x}", random());
        let create = server.client.create_bucket().bucket(&name).send();
        server::runtime().block_on(create).expect("create the test's bucket");
        Self { name, server, owned: true }
    }

    /// Another handle of the same bucket, which does not delete it.
    pub(crate) fn again(&self) -> Self {
        Self { name: self.name.clone(), server: self.server, owned: false }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn server(&self) -> &'static Server {
        self.server
    }

    /// `s3://BUCKET/fleet`, the fleet of the test's machines.
    pub(crate) fn fleet(&self) -> String {
        format!("s3://{}/fleet", self.name)
    }

    pub(crate) fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        self.put_if(key, body, If::Always).expect("put an object")
    }

    /// The new ETag, or the status with which S3 refused.
    pub(crate) fn put_if(
        &self,
        key: &str,
        body: impl Into<Vec<u8>>,
        condition: If<'_>,
    ) -> Result<String, u16> {
        self.write(key, body.into(), condition, HashMap::new())
    }

    /// A new object with metadata.
    pub(crate) fn put_with(&self, key: &str, body: Vec<u8>, metadata: HashMap<String, String>) {
        self.write(key, body, If::Always, metadata).expect("put an object");
    }

    fn write(
        &self,
        key: &str,
        body: Vec<u8>,
        condition: If<'_>,
        metadata: HashMap<String, String>,
    ) -> Result<String, u16> {
        let request = self.server.client.put_object().bucket(&self.name).key(key);
        let request = match condition {
            If::Always => request,
            If::Absent => request.if_none_match("*"),
            If::Matches(etag) => request.if_match(etag),
        };
        let request = request.set_metadata(Some(metadata)).body(ByteStream::from(body));
        match server::runtime().block_on(request.send()) {
            Ok(reply) => Ok(reply.e_tag.expect("S3 gives an ETag")),
            Err(SdkError::ServiceError(error)) => Err(error.raw().status().as_u16()),
            Err(error) => panic!("put {key}: {error:?}"),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Object> {
        server::runtime().block_on(async {
            let request = self.server.client.get_object().bucket(&self.name).key(key);
            let reply = match request.send().await {
                Ok(reply) => reply,
                Err(error) if error.code() == Some("NoSuchKey") => return None,
                Err(error) => panic!("get {key}: {error:?}"),
            };
            let etag = reply.e_tag.expect("S3 gives an ETag");
            let metadata = reply.metadata.unwrap_or_default();
            let body = reply.body.collect().await.expect("read an object").to_vec();
            Some(Object { body, etag, metadata })
        })
    }

    pub(crate) fn json(&self, key: &str) -> Option<Value> {
        let object = self.get(key)?;
        Some(serde_json::from_slice(&object.body).unwrap_or_else(|e| panic!("parse {key}: {e}")))
    }

    /// All keys under a prefix, in order.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        server::runtime().block_on(async {
            let request = self.server.client.list_objects_v2().bucket(&self.name).prefix(prefix);
            let mut pages = request.into_paginator().send();
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.expect("list objects");
                keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|o| o.key));
            }
            keys
        })
    }

    pub(crate) fn delete(&self, key: &str) {
        let request = self.server.client.delete_object().bucket(&self.name).key(key);
        server::runtime().block_on(request.send()).expect("delete an object");
    }

    /// `<fleet>/nodes/<node>/lease.json`, parsed.
    pub(crate) fn lease(&self, node: &str) -> Option<Value> {
        self.json(&format!("fleet/nodes/{node}/lease.json"))
    }

    /// The prefix of one epoch, without a slash at its end.
    pub(crate) fn epoch_prefix(node: &str, epoch: u64) -> String {
        format!("fleet/nodes/{node}/epochs/{epoch:010}")
    }

    /// The epochs that have anything in the bucket.
    pub(crate) fn epochs(&self, node: &str) -> Vec<u64> {
        let prefix = format!("fleet/nodes/{node}/epochs/");
        let mut epochs: Vec<u64> = self
            .keys(&prefix)
            .iter()
            .filter_map(|key| key.strip_prefix(&prefix)?.split('/').next()?.parse().ok())
            .collect();
        epochs.dedup();
        epochs
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if !self.owned || self.server.kind != Kind::Env || std::thread::panicking() {
            return;
        }
        for key in self.keys("") {
            self.delete(&key);
        }
        let delete = self.server.client.delete_bucket().bucket(&self.name).send();
        if let Err(error) = server::runtime().block_on(delete) {
            eprintln!("bucket {} could not be deleted: {error:?}", self.name);
        }
    }
}
