//! A bucket in memory, and a Litestream that ships, compacts and expires in it between the requests
//! of a reader, for tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_model::{
    Base, BreakDoc, BreakName, ETag, Epoch, EpochDoc, InstanceId, Level, LogSum, LtxName, NodeId,
    NodeKeys, Nonce, Seq, Timestamp, Txid, Versions,
};

use crate::error::Error;
use crate::objects::Objects;
use crate::store::{Listed, Object};

/// What happens to the newest epoch. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Ship,
    /// Merges what a level's files have beyond the end of the next level.
    Compact(u8),
    /// A snapshot of the position this many transactions ago: its upload takes a while.
    Snapshot(u64),
    /// Deletes this many of the oldest shipped files that were compacted, never the last.
    ExpireShipped(usize),
    /// Deletes the oldest snapshot, if there is another, and what only it needed.
    ExpireSnapshot,
    /// Opens a break after a transaction.
    OpenBreak(u64),
    /// Closes what was opened last, or marks a range of its own.
    CloseBreak(u64),
    /// An object is lost.
    Lose(usize),
    /// The next epoch, which begins from nothing, from the local file, or from a point.
    NextEpoch(Began),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Began {
    Claimed,
    Empty,
    Local,
    /// From this transaction, this many epochs back.
    From(u64, u64),
}

/// The objects, each with its content and its time.
#[derive(Debug, Clone)]
pub(crate) struct World {
    keys: NodeKeys,
    objects: BTreeMap<String, (Bytes, Timestamp)>,
    pub(crate) epoch: Epoch,
    /// How many transactions the newest epoch has shipped.
    pub(crate) shipped: u64,
    opened: Option<Txid>,
    clock: i64,
}

fn txid(n: u64) -> Txid {
    Txid::new(n.max(1)).unwrap()
}

impl World {
    pub(crate) fn new(keys: &NodeKeys) -> World {
        let mut world = World {
            keys: keys.clone(),
            objects: BTreeMap::new(),
            epoch: Epoch::FIRST,
            shipped: 0,
            opened: None,
            clock: 0,
        };
        world.begin(None);
        world
    }

    /// Never a whole second, which would mean the end of it.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock * 1_000 + 1).unwrap()
    }

    fn put(&mut self, key: String, body: Bytes) {
        self.clock += 1;
        self.objects.insert(key, (body, self.now()));
    }

    fn put_file(&mut self, level: Level, min: u64, max: u64) {
        let name = LtxName { min: txid(min), max: txid(max) };
        self.put(format!("{}{name}", self.keys.level(self.epoch, level)), Bytes::from("ltx"));
    }

    /// The files of a level, in the order of their names.
    fn files(&self, level: Level) -> Vec<(u64, u64)> {
        let prefix = self.keys.level(self.epoch, level);
        let names = self.objects.keys().filter_map(|key| key.strip_prefix(&prefix));
        let names = names.map(|name| name.parse::<LtxName>().unwrap());
        names.map(|name| (name.min.get(), name.max.get())).collect()
    }

    fn end(&self, level: Level) -> u64 {
        self.files(level).iter().map(|file| file.1).max().unwrap_or(0)
    }

    fn delete(&mut self, level: Level, gone: &[(u64, u64)]) {
        for &(min, max) in gone {
            let name = LtxName { min: txid(min), max: txid(max) };
            self.objects.remove(&format!("{}{name}", self.keys.level(self.epoch, level)));
        }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Ship => {
                self.shipped += 1;
                self.put_file(Level::SHIPPED, self.shipped, self.shipped);
            }
            Event::Compact(from) => self.compact(from),
            Event::Snapshot(ago) => {
                let at = self.shipped.saturating_sub(ago);
                if at > self.end(Level::SNAPSHOT) {
                    self.put_file(Level::SNAPSHOT, 1, at);
                }
            }
            Event::ExpireShipped(count) => {
                let end = self.end(Level::COMPACTED);
                let mut files = self.files(Level::SHIPPED);
                files.pop();
                files.retain(|file| file.1 <= end);
                files.truncate(count);
                self.delete(Level::SHIPPED, &files);
            }
            Event::ExpireSnapshot => self.expire_snapshot(),
            Event::OpenBreak(after) if self.shipped > 0 => {
                let after = txid(1 + after % self.shipped);
                self.opened = Some(after);
                self.mark(after, None);
            }
            Event::CloseBreak(length) if self.shipped > 0 => {
                let after = self.opened.take().unwrap_or_else(|| txid(1 + length % self.shipped));
                self.mark(after, Some(txid(after.get() + 1 + length % 4)));
            }
            Event::OpenBreak(_) | Event::CloseBreak(_) => {}
            Event::Lose(index) => self.lose(index),
            Event::NextEpoch(began) => self.next_epoch(began),
        }
    }

    fn compact(&mut self, from: u8) {
        let (from, to) = (Level::new(from).unwrap(), Level::new(from + 1).unwrap());
        let done = self.end(to);
        let new: Vec<_> = self.files(from).into_iter().filter(|file| file.0 > done).collect();
        if let (Some(first), Some(last)) = (new.first(), new.last()) {
            self.put_file(to, first.0, last.1);
        }
        // Our configuration has no second level; where there is one, the first is emptied into it.
        if from == Level::COMPACTED {
            let mut files = self.files(from);
            files.pop();
            self.delete(from, &files);
        }
    }

    fn expire_snapshot(&mut self) {
        let snapshots = self.files(Level::SNAPSHOT);
        let [oldest, next, ..] = snapshots.as_slice() else { return };
        self.delete(Level::SNAPSHOT, &[*oldest]);
        for level in [Level::COMPACTED, Level::new(2).unwrap()] {
            let mut files = self.files(level);
            files.pop();
            files.retain(|file| file.1 < next.1);
            self.delete(level, &files);
        }
    }

    fn mark(&mut self, after: Txid, until: Option<Txid>) {
        let doc = BreakDoc {
            v: 1,
            after: Some(after),
            until,
            reason: "test".into(),
            at: self.now(),
            unknown: serde_json::Map::new(),
        };
        let key = self.keys.break_doc(self.epoch, BreakName::of(doc.after, doc.until));
        self.put(key, serde_json::to_vec(&doc).unwrap().into());
    }

    fn lose(&mut self, index: usize) {
        let files: Vec<String> =
            self.objects.keys().filter(|key| key.ends_with(".ltx")).cloned().collect();
        if !files.is_empty() {
            self.objects.remove(&files[index % files.len()]);
        }
    }

    fn next_epoch(&mut self, began: Began) {
        let (seq, sum) = (Seq::ZERO, LogSum::ZERO);
        let base = match began {
            Began::Claimed | Began::Empty => None,
            Began::Local => Some(Base::Local { local: tidemill_model::LocalHead { seq, sum } }),
            Began::From(at, back) => {
                let epoch = Epoch::new(self.epoch.get().saturating_sub(back).max(1)).unwrap();
                Some(Base::Restored { epoch, txid: txid(at), seq, sum })
            }
        };
        (self.epoch, self.shipped, self.opened) = (self.epoch.next(), 0, None);
        if let Began::Claimed = began {
            // Not even `epoch.json`: what makes it an epoch is any key.
            self.put(format!("{}/x", self.keys.epoch(self.epoch)), Bytes::new());
        } else {
            self.begin(base);
        }
    }

    fn begin(&mut self, base: Option<Base>) {
        let doc = EpochDoc {
            v: 1,
            node: NodeId::new("n1").unwrap(),
            epoch: self.epoch,
            instance: InstanceId::from_random([1; 16]),
            acquired: Nonce::from_random([2; 16]),
            at: self.now(),
            base,
            ttl: None,
            host: None,
            given_up: None,
            versions: Versions::new(),
            unknown: serde_json::Map::new(),
        };
        self.put(self.keys.epoch_doc(self.epoch), serde_json::to_vec(&doc).unwrap().into());
    }
}

/// A world that goes on while it is read: before each page of an answer, the next of `to_come`
/// happen.
#[derive(Clone)]
pub(crate) struct Changing {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    world: World,
    to_come: VecDeque<Vec<Event>>,
    page: usize,
    requests: usize,
    states: Vec<World>,
}

impl Changing {
    pub(crate) fn new(world: World, page: usize, to_come: Vec<Vec<Event>>) -> Changing {
        let (states, to_come) = (vec![world.clone()], to_come.into());
        let inner = Inner { world, to_come, page, requests: 0, states };
        Changing { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A world that stands still.
    pub(crate) fn still(world: World) -> Changing {
        Changing::new(world, 1_000, Vec::new())
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().unwrap().requests
    }

    /// How the world was at the beginning and after each change.
    pub(crate) fn states(&self) -> Vec<World> {
        self.inner.lock().unwrap().states.clone()
    }

    fn request<T>(&self, answer: impl FnOnce(&World, usize) -> T) -> T {
        let mut inner = self.inner.lock().unwrap();
        for event in inner.to_come.pop_front().unwrap_or_default() {
            inner.world.happen(event);
            let state = inner.world.clone();
            inner.states.push(state);
        }
        inner.requests += 1;
        answer(&inner.world, inner.page)
    }
}

impl Objects for Changing {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, Error> {
        let mut listed: Vec<Listed> = Vec::new();
        loop {
            let last = listed.last().map(|object| object.key.clone());
            let last = last.as_deref().or(after).unwrap_or_default();
            let (page, full) = self.request(|world, most| {
                let keys = world.objects.iter().filter(|(key, _)| key.as_str() > last);
                let keys = keys.filter(|(key, _)| key.starts_with(prefix));
                let listed = |(key, (_, at)): (&String, &(Bytes, Timestamp))| Listed {
                    key: key.clone(),
                    size: 1,
                    modified: *at,
                };
                let page: Vec<Listed> = keys.take(most).map(listed).collect();
                let full = page.len() == most;
                (page, full)
            });
            listed.extend(page);
            if !full {
                return Ok(listed);
            }
        }
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Ok(self.request(|world, _| {
            let below = world.objects.keys().filter_map(|key| key.strip_prefix(prefix));
            let names = below.filter_map(|rest| Some(rest.split_once('/')?.0.to_owned()));
            names.collect::<BTreeSet<String>>().into_iter().collect()
        }))
    }

    async fn find(&self, key: &str) -> Result<Option<Object>, Error> {
        Ok(self.request(|world, _| {
            let (body, _) = world.objects.get(key)?;
            let etag = ETag::new("\"1\"").unwrap();
            Some(Object { body: body.clone(), etag, written_at: None, read_at: None })
        }))
    }
}

/// What Litestream does by our configuration, and what else a running node does to its epoch.
pub(crate) fn usual() -> BoxedStrategy<Event> {
    prop_oneof![
        6 => Just(Event::Ship),
        3 => Just(Event::Compact(0)),
        1 => (0_u64..4).prop_map(Event::Snapshot),
        2 => (0_usize..6).prop_map(Event::ExpireShipped),
        1 => Just(Event::ExpireSnapshot),
    ]
    .boxed()
}

/// A new owner.
pub(crate) fn succession() -> BoxedStrategy<Event> {
    prop_oneof![
        Just(Event::NextEpoch(Began::Claimed)),
        Just(Event::NextEpoch(Began::Empty)),
        Just(Event::NextEpoch(Began::Local)),
        (0_u64..12, 0_u64..3).prop_map(|(at, back)| Event::NextEpoch(Began::From(at, back))),
    ]
    .boxed()
}

/// Breaks.
pub(crate) fn cures() -> BoxedStrategy<Event> {
    prop_oneof![(0_u64..20).prop_map(Event::OpenBreak), (0_u64..20).prop_map(Event::CloseBreak),]
        .boxed()
}

/// What should not happen: lost files, and levels that we do not configure.
pub(crate) fn unusual() -> BoxedStrategy<Event> {
    prop_oneof![(0_usize..100).prop_map(Event::Lose), Just(Event::Compact(1))].boxed()
}
