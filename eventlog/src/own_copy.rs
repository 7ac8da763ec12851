//! A copy of a file that becomes a node of its own: `tidemill restore --as`.
//!
//! What the copy did not finish is *parked*: each unfinished run is blocked in the log, with a reason
//! that no start of a process clears. Its effects may have happened where it was copied from, after
//! the copy, so only a person lets it go on.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_model::{
    BlockReason, BlockReasonKind, Epoch, Event, InstanceId, NodeId, NodeStarted, RunId, RunStatus,
    Seq, Timestamp, Versions,
};

use crate::append::Appender;
use crate::error::{Error, Result, sqlite};
use crate::meta::{self, Meta};
use crate::projection;

/// What a file is a copy of, and which node it is now: the key `copy` of `tidemill_meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCopy {
    /// The node that the copy is.
    pub name: NodeId,
    /// What no other copy has: the steps' idempotency keys derive from it.
    pub id: InstanceId,
    /// The node that it was copied from; `None` if that never had a sidecar.
    pub node: Option<NodeId>,
    /// The epoch of that node.
    pub epoch: Option<Epoch>,
    /// The newest event that was copied.
    pub seq: Seq,
    /// When the copy was made.
    pub at: Timestamp,
}

impl OwnCopy {
    /// Where it came from, in words.
    pub fn origin(&self) -> String {
        let of = self.node.as_ref().map_or("a file that was never shipped", |node| node.as_str());
        format!("{of} up to event {}", self.seq)
    }
}

impl OwnCopy {
    /// Writes that the file is this node from now on.
    pub(crate) fn begin(&self, connection: &Connection, appender: &mut Appender) -> Result<()> {
        let version = ("tidemill".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let started = Event::NodeStarted(NodeStarted {
            node: Some(self.name.clone()),
            epoch: None,
            instance: Some(self.id.clone()),
            versions: Versions::from([version]),
        });
        appender.append(connection, self.at, None, &started)?;
        let text = serde_json::to_string(self).expect("a struct of texts and numbers has JSON");
        meta::put(connection, "copy", &text)
    }
}

/// Makes the file a node of its own, in one transaction: it belongs to no sidecar any more, and each
/// unfinished run is parked. Returns what the file is now and how many runs are parked. Only for a
/// file that nothing else has open.
///
/// # Errors
/// `Invalid` if the name is that of the node that was copied; otherwise what SQLite says, and the
/// file is as it was.
pub fn make_own(
    connection: &Connection,
    name: &NodeId,
    id: InstanceId,
    at: Timestamp,
) -> Result<(OwnCopy, u64)> {
    let failed = |e| sqlite("make the copy a node of its own", e);
    let before = Meta::read(connection)?;
    let node = before.copy.map(|copy| copy.name).or(before.node);
    if node.as_ref() == Some(name) {
        let why = format!("`{name}` is the node that is copied: a copy needs a name of its own");
        return Err(Error::new(crate::ErrorKind::Invalid, why));
    }
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    let mut appender = Appender::load(&transaction)?;
    let (epoch, seq) = (before.epoch, appender.head().seq);
    let copy = OwnCopy { name: name.clone(), id, node, epoch, seq, at };
    copy.begin(&transaction, &mut appender)?;
    let parked = park(&transaction, &mut appender, &copy)?;
    meta::put(&transaction, "shipped", "0")?;
    let sql = "DELETE FROM tidemill_meta WHERE key IN ('node', 'epoch', 'instance')";
    transaction.execute(sql, []).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok((copy, parked))
}

/// Parks each unfinished run, also one that was blocked: the next process would try it again.
fn park(connection: &Connection, appender: &mut Appender, copy: &OwnCopy) -> Result<u64> {
    let reason = BlockReason {
        kind: BlockReasonKind::Parked,
        op: None,
        logged: Some(format!("node {} is a copy of {}", copy.name, copy.origin())),
        asked: None,
        advice: "`resume` lets this run go on here, and `serve --unpark` all of them: steps that had \
                 not ended then run again under other idempotency keys, whatever became of them where \
                 the copy was made"
            .to_owned(),
    };
    let runs = unfinished(connection)?;
    for run in &runs {
        let event = Event::RunBlocked { reason: reason.clone() };
        let at = appender.append(connection, copy.at, Some(run), &event)?;
        projection::set_status(connection, run, RunStatus::Blocked, Some(at.seq))?;
    }
    Ok(u64::try_from(runs.len()).unwrap_or(u64::MAX))
}

fn unfinished(connection: &Connection) -> Result<Vec<RunId>> {
    let failed = |e| sqlite("list the unfinished runs", e);
    let sql = "SELECT run, status FROM tidemill_runs ORDER BY seq";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (run, status): (String, String) =
            (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        // A status of a newer version is not known to be an end.
        if status.parse().is_ok_and(RunStatus::is_final) {
            continue;
        }
        let corrupt = |e| Error::corrupt(format!("tidemill_runs has a bad run: {e}"));
        found.push(RunId::new(&run).map_err(corrupt)?);
    }
    Ok(found)
}
