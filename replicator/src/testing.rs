//! Short builders of ids, documents and moments for the cores' tests.

use tidemill_model::{
    BootId, BootTime, Covered, ETag, Epoch, FolderId, InstanceId, LastGood, LeaseDoc, LeaseStatus,
    LogSum, MachineId, NodeId, NodeState, Nonce, Seq, SidecarState, Stage, Timestamp, Ttl, Txid,
};

use crate::clocks::Clocks;
use crate::points::LogPoint;

pub(crate) fn ms(ms: u64) -> BootTime {
    BootTime::from_nanos(ms * 1_000_000)
}

pub(crate) fn at(boot_ms: u64) -> Clocks {
    at_wall(boot_ms, boot_ms)
}

pub(crate) fn at_wall(boot_ms: u64, wall_ms: u64) -> Clocks {
    let micros = i64::try_from(wall_ms).unwrap() * 1000;
    Clocks { boot: ms(boot_ms), wall: Timestamp::from_micros(micros).unwrap() }
}

pub(crate) fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 16])
}

pub(crate) fn instance(n: u8) -> InstanceId {
    InstanceId::from_random([n; 16])
}

pub(crate) fn epoch(n: u64) -> Epoch {
    Epoch::new(n).unwrap()
}

pub(crate) fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

pub(crate) fn etag(n: u64) -> ETag {
    ETag::new(&format!("\"{n}\"")).unwrap()
}

/// The head at `seq` of a log; `line` distinguishes the sums of different logs.
pub(crate) fn head(seq: u64, line: u64) -> LogPoint {
    LogPoint { seq: Seq::new(seq).unwrap(), sum: sum(seq, line) }
}

pub(crate) fn sum(seq: u64, line: u64) -> LogSum {
    LogSum::new(seq * 1000 + line)
}

pub(crate) fn good(tx: u64, seq: u64) -> LastGood {
    LastGood { txid: txid(tx), seq: Seq::new(seq).unwrap(), sum: sum(seq, 0) }
}

pub(crate) fn covered(e: u64, tx: u64, seq: u64) -> Covered {
    Covered { epoch: epoch(e), txid: txid(tx), seq: Seq::new(seq).unwrap(), sum: sum(seq, 0) }
}

pub(crate) fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

pub(crate) fn boot(n: u8) -> BootId {
    BootId::new(&format!("boot-{n}")).unwrap()
}

pub(crate) fn folder(n: u64) -> FolderId {
    FolderId::of(1, n)
}

pub(crate) fn machine(n: u8) -> MachineId {
    MachineId::new(&format!("machine-{n}")).unwrap()
}

pub(crate) fn status() -> LeaseStatus {
    LeaseStatus {
        state: SidecarState::Ready,
        host: "host".to_owned(),
        pid: 7,
        boot: boot(1),
        version: "0".to_owned(),
        at: Timestamp::from_micros(0).unwrap(),
        wal_lag_bytes: 0,
        shipped_until: None,
        runs: None,
        unknown: serde_json::Map::new(),
    }
}

pub(crate) fn lease(e: u64, owner: u8, acquired: u8, this: u8) -> LeaseDoc {
    LeaseDoc {
        v: 1,
        node: node(),
        epoch: epoch(e),
        instance: instance(owner),
        acquired: nonce(acquired),
        nonce: nonce(this),
        ttl: Ttl::from_millis(10_000).unwrap(),
        released: false,
        covered: None,
        status: status(),
        unknown: serde_json::Map::new(),
    }
}

/// A disk of instance 1 whose state file says `stage` of epoch 3, claimed with nonce 3.
pub(crate) fn state(stage: Stage) -> NodeState {
    NodeState {
        v: 1,
        node: node(),
        instance: instance(1),
        epoch: Some(epoch(3)),
        acquired: Some(nonce(3)),
        stage,
        base: None,
        last_good: Some(good(9, 50)),
        uncured: None,
        abandoned: false,
        failures: None,
        boot: boot(1),
        machine: machine(1),
        folder: Some(folder(1)),
        unknown: serde_json::Map::new(),
    }
}
